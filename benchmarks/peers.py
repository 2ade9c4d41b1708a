"""Where the peers are, how to get them, and the command line that gives each the same job.

Refuses to guess: a peer that is absent is named, with the line that installs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "capsule-bench"
DEBIAN = (
    "bubblewrap", "firejail", "runc", "strace", "ripgrep", "socat", "squid-openssl", "nginx-light", "nghttp2-client",
)  # fmt: skip
NPM = ("@anthropic-ai/sandbox-runtime", "@openai/codex")


@dataclass(frozen=True)
class Peers:
    """Paths of the peers found; None where absent."""

    bwrap: str | None
    firejail: str | None
    runc: str | None
    strace: str | None
    srt: str | None
    codex: str | None
    squid: str | None
    h2load: str | None

    def missing(self) -> list[str]:
        """Names of the absent ones."""
        return [name for name, path in vars(self).items() if path is None]


def find() -> Peers:
    """Look on PATH, in the sbin folders and in the benchmark's own npm folder."""

    def look(name: str) -> str | None:
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")

    modules = CACHE / "node_modules"
    srt = modules / ".bin" / "srt"
    codex = next(iter(sorted(modules.glob("@openai/codex-linux-*/vendor/*/bin/codex"))), None)
    return Peers(
        look("bwrap"),
        look("firejail"),
        look("runc"),
        look("strace"),
        str(srt) if srt.exists() else None,
        str(codex) if codex else None,
        look("squid"),
        look("h2load"),
    )


def install() -> Peers:
    """Install what is missing: Debian packages when root, the npm ones into the benchmark's cache."""
    peers = find()
    if set(peers.missing()) & {"bwrap", "firejail", "runc", "strace", "squid", "h2load"}:
        line = ["apt-get", "install", "-y", "--no-install-recommends", *DEBIAN]
        if os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-qq"], check=False)
            subprocess.run([*line, "-qq"], check=False, stdout=subprocess.DEVNULL)
        else:
            print("not installed (needs root): sudo", " ".join(line))
    if {"srt", "codex"} & set(peers.missing()) and shutil.which("npm"):
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text(json.dumps({"name": "capsule-bench", "private": True}))
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *NPM], cwd=CACHE, check=False)
    return find()


def runc_bundle(runc: str, where: Path) -> list[str]:
    """A bundle that runs ``true`` with the host's system directories read-only; its command line."""
    where.mkdir(parents=True, exist_ok=True)
    root = where / "rootfs"
    for name in ("usr", "bin", "lib", "lib64", "etc", "proc", "dev", "tmp", "sys"):
        (root / name).mkdir(parents=True, exist_ok=True)
    subprocess.run([runc, "spec"], cwd=where, check=False, capture_output=True)
    config = json.loads((where / "config.json").read_text())
    config["process"].update(terminal=False, args=["/usr/bin/true"], cwd="/")
    config["root"] = {"path": "rootfs", "readonly": True}
    config["mounts"] += [
        {"destination": f"/{n}", "type": "bind", "source": f"/{n}", "options": ["rbind", "ro"]}
        for n in ("usr", "bin", "lib", "lib64", "etc")
    ]
    (where / "config.json").write_text(json.dumps(config))
    return [runc, "run", "--bundle", str(where), "capsule-bench"]
