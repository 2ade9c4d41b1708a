# syntax=docker/dockerfile:1
# Capsule in a container:  docker build -t capsule .  &&  docker run --rm -v "$(pwd)":/workspace capsule run ls -l
# Which security options a container needs for which tier: docs/docker.md.

FROM debian:trixie-slim AS build
# Debian keeps a current compiler for browsers beside its own, which is too old for this.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cargo-web gcc libc6-dev python3 python3-venv rustc-web \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock scripts/tools.lock ./
# uv is pinned by hash and installs only what is; /build holds maturin, /opt/capsule what capsule needs to run.
RUN python3 -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --require-hashes -r tools.lock \
    && /tools/bin/uv venv --python /usr/bin/python3 /build \
    && /tools/bin/uv pip sync --no-cache --python /build --require-hashes requirements.lock
COPY capsule capsule
# The tree's cargo configuration names the target "host-tuple", which this cargo may not know yet.
RUN CARGO_BUILD_TARGET="$(rustc -vV | sed -n 's/^host: //p')" MATURIN_PEP517_ARGS=--locked PATH="/build/bin:$PATH" \
    /tools/bin/uv build --no-cache --wheel --no-build-isolation --python /build --out-dir /wheel capsule
RUN /tools/bin/uv venv --python /usr/bin/python3 /opt/capsule \
    && /tools/bin/uv pip sync --no-cache --python /opt/capsule --require-hashes capsule/requirements.lock \
    && /tools/bin/uv pip install --no-cache --python /opt/capsule --no-deps /wheel/*.whl

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 capsule \
    && install -d -o capsule -g capsule /workspace
COPY --from=build /opt/capsule /opt/capsule
ENV PATH=/opt/capsule/bin:/usr/local/bin:/usr/bin:/bin
USER capsule
WORKDIR /workspace
ENTRYPOINT ["capsule"]
CMD ["--help"]
