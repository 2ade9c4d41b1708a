"""What does a machine's network cost: HTTPS requests one after the other on a kept connection, and one large transfer?

The same curl, server and policy three ways: on this host with nothing between, under `capsule run`, and in a machine,
whose processor is emulated where there is no accelerator. Requests are inspected, decided and recorded in the last two.
Refuses an answer that is not whole.

Run: ``python -m benchmarks.machine_network [--requests N] [--kernel stock]``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.egress import server
from benchmarks.home import IMAGE, bench_home
from benchmarks.measure import NotWorkingError, save
from benchmarks.proxies import SERVER, need

NAME = "a.example"
ROUNDS = 3
POLICY = """version: 1
name: network
extends: [strict]
network:
  hosts: [{{host: {name}, ports: [443], inspect: always}}]
  upstreams: [{{host: {name}, address: "127.0.0.1:{port}", reason: benchmark}}]
  authorities: ["{authority}"]
"""
Run = Callable[[list[str]], Awaitable[str]]


async def on_host(argv: list[str]) -> str:
    """Its output."""
    done = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    out, _ = await done.communicate()
    if done.returncode != 0:
        raise NotWorkingError(f"{argv[0]} ended with {done.returncode}")
    return out.decode()


async def figures(run: Run, url: str, trust: list[str], requests: int, size: int) -> tuple[float, float]:
    """Requests a second and MB/s, by what curl says of its own time."""
    say = ["-sS", "-o", "/dev/null", "-w", "%{http_code} %{time_total} %{size_download}\\n", *trust]
    said = (await run([need("curl"), "--http1.1", *say, f"{url}/small?[1-{requests}]"])).splitlines()
    rows = [line.split() for line in said]
    if len(rows) != requests or any(row[0] != "200" for row in rows):
        raise NotWorkingError(f"{sum(row[0] == '200' for row in rows)} of {requests} requests were answered")
    # The first opens the connection, and starts the proxy where there is one.
    rate = (requests - 1) / sum(float(row[1]) for row in rows[1:])
    said = (await run([need("curl"), "--http1.1", *say, "-r", f"0-{size - 1}", f"{url}/large"])).splitlines()
    code, seconds, came = said[0].split()
    if code != "206" or int(came) != size:
        raise NotWorkingError(f"{came} bytes came of {size}, with {code}")
    return rate, size / 1e6 / float(seconds)


async def measured(requests: int, size: int, directory: Path) -> tuple[dict[str, object], str]:
    """All ways, interleaved."""
    from capsem.host.service import call
    from capsem.sdk.async_sandbox import AsyncSandbox
    from capsule.sandbox.launcher import find_binary

    policy = directory / "network.yaml"
    policy.write_text(POLICY.format(name=NAME, port=SERVER, authority=directory / "outside.pem"))
    create = [sys.executable, "-m", "capsem.cli", "create", "--image", IMAGE, "--policy", str(policy)]
    box = await AsyncSandbox.connect((await on_host(create)).strip())

    async def inside(argv: list[str]) -> str:
        done = await box.commands.run(["/usr/bin/curl", *argv[1:]], timeout=600)
        if done.exit_code != 0:
            raise NotWorkingError(f"curl ended with {done.exit_code}: {done.stderr[-300:]}")
        return done.stdout

    async def sandboxed(argv: list[str]) -> str:
        return await on_host([str(find_binary()), "run", "--policy", str(policy), "--", *argv])

    direct = f"https://127.0.0.1:{SERVER}"
    ways: dict[str, tuple[Run, str, list[str]]] = {
        "nothing between": (on_host, direct, ["--cacert", str(directory / "outside.pem")]),
        "capsule run": (sandboxed, f"https://{NAME}", []),
        "a machine": (inside, f"https://{NAME}", []),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (run, url, trust) in ways.items():
            found[name].append(await figures(run, url, trust, requests, size))
    await box.kill()
    facts: dict[str, object] = {}
    for name, values in found.items():
        facts[f"{name}, requests/s"] = round(statistics.median(rate for rate, _ in values), 1)
        facts[f"{name}, MB/s"] = round(statistics.median(rate for _, rate in values), 1)
    host = await call("GET", "/host")
    return facts, host["accelerator"] + (f" ({host['why']})" if host["why"] else "")


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--kernel", choices=["stock", "hardened"], default="stock")
    given = parser.parse_args()
    size = 8 << 20
    with contextlib.ExitStack() as stack:
        stack.enter_context(bench_home(given.kernel))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        (directory / "outside.pem").touch()
        stack.enter_context(server(directory))
        os.environ.pop("SSL_CERT_FILE", None)
        facts, accelerator = asyncio.run(measured(given.requests, size, directory))
    facts |= {"accelerator": accelerator, "kernel": given.kernel, "bytes of a transfer": size}
    for key, value in facts.items():
        print(f"{key}: {value}")
    command = f"python -m benchmarks.machine_network --requests {given.requests} --kernel {given.kernel}"
    save("machine_network", command, {}, **facts)


if __name__ == "__main__":
    main()
