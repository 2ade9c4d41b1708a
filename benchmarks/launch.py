"""How long does it take to run ``true`` in a full sandbox, with the log?

Peers in the same run, rounds interleaved. ``bwrap, same view`` gets the file view of capsule's ``workspace``
preset (the same hidden, private, writable and shining-through places) but no Landlock, no seccomp filter,
no supervision and no log, which capsule has. ``the walls, asks answered unseen`` is the floor: the layers of
``capsule run`` with two synced writes, and nothing read, decided or told (`benchmarks.floor`).

Run: ``python -m benchmarks.launch [--rounds N] [--as-user NAME]``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks import peers as peer_commands
from benchmarks.floor import ASKED, Floor
from benchmarks.measure import NotWorkingError, Row, interleaved, once, save, summarise, table, version


def capsule_binary() -> str:
    """The built native binary."""
    from capsule.sandbox.launcher import find_binary

    return str(find_binary())


def same_view(bwrap: str, capsule: str, cwd: str) -> list[str]:
    """bwrap's command line for the file view that the preset ``workspace`` gives."""
    plan = json.loads(
        subprocess.run(
            [capsule, "policy", "compile", "workspace"], capture_output=True, text=True, check=True
        ).stdout
    )
    home = str(Path.home())

    def real(path: str) -> str:
        return path.replace("${workspace}", cwd).replace("${cwd}", cwd).replace("${home}", home)

    files = plan["filesystem"]
    argv = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/"]
    argv += ["--dev", "/dev", "--proc", "/proc"]
    hidden = [real(g["path"]) for g in files["hide"]]
    private = [p for g in files["private"] if not (p := real(g["path"])).startswith("/dev/")]
    for path in sorted({*hidden, *private}, key=len):
        if Path(path).is_dir() and not Path(path).is_symlink():
            argv += ["--tmpfs", path]
    writable = {real(g["path"]) for g in files["write"]}
    covered = [*hidden, *private]
    shining = {real(g["path"]) for kind in ("read", "execute") for g in files[kind]} - writable
    for path in sorted(shining, key=len):
        if Path(path).exists() and any(path.startswith(h + "/") for h in covered):
            argv += ["--ro-bind", path, path]
    for path in sorted(writable, key=len):
        if Path(path).exists() and not path.startswith("/dev"):
            argv += ["--bind", path, path]
    return [*argv, "--chdir", cwd, "--", "/usr/bin/true"]


def commands(where: str, floor: Floor | None) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Every launcher's command line, and how many rounds the slow ones get."""
    capsule = capsule_binary()
    peers = peer_commands.find()
    rows = {
        "spawn true (no sandbox)": ["/usr/bin/true"],
        "capsule run, full tier + log": [capsule, "run", "--", "/usr/bin/true"],
    }
    seldom: dict[str, int] = {}
    if floor:
        rows[ASKED] = floor.around(["/usr/bin/true"])
    if peers.bwrap:
        rows["bwrap --unshare-all, ro-bind /"] = [
            peers.bwrap, "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "/usr/bin/true",
        ]  # fmt: skip
        rows["bwrap --unshare-all, same view"] = same_view(peers.bwrap, capsule, where)
    if peers.firejail:
        rows["firejail default"] = [peers.firejail, "--quiet", "/usr/bin/true"]
        seldom["firejail default"] = 25
    if peers.runc and os.geteuid() == 0:
        rows["runc run"] = peer_commands.runc_bundle(peers.runc, Path(where).parent / "bundle")
        seldom["runc run"] = 25
    if peers.codex:
        rows["codex sandbox"] = [peers.codex, "sandbox", "--", "/usr/bin/true"]
        seldom["codex sandbox"] = 25
    if peers.srt:
        rows["sandbox-runtime (srt)"] = [peers.srt, "/usr/bin/true"]
        seldom["sandbox-runtime (srt)"] = 15
    return rows, seldom


def working(rows: dict[str, list[str]], where: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Keep the launchers that work here; say why the others do not."""
    good, bad = {}, {}
    for name, argv in rows.items():
        try:
            once(argv, os.environ, where)
        except (NotWorkingError, OSError) as error:
            bad[name] = str(error)[:200]
        else:
            good[name] = argv
    return good, bad


def main() -> int:
    """Measure, print the table, write ``results/launch.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--install", action="store_true", help="install the peers that are missing")
    options = parser.parse_args()
    if options.install:
        peer_commands.install()
    with tempfile.TemporaryDirectory(prefix="capsule-bench-", dir="/var/tmp") as top:
        where = f"{top}/work"
        Path(where).mkdir()
        without = {}
        floor = None
        try:
            floor = Floor.build(where, Path(top, "walls.txt"))
        except NotWorkingError as error:
            without[ASKED] = str(error)
        rows, seldom = commands(where, floor)
        good, bad = working(rows, where)
        bad |= without
        times = interleaved(good, options.rounds, cwd=where, seldom=seldom)
    summary: list[Row] = summarise(times, "capsule run, full tier + log")
    print(table(summary))
    for name, why in bad.items():
        print(f"not working here: {name}: {why}")
    found = peer_commands.find()
    versions = {
        "bwrap": version([found.bwrap or "bwrap", "--version"]),
        "firejail": version([found.firejail or "firejail", "--version"]),
        "runc": version([found.runc or "runc", "--version"]),
        "codex": version([found.codex or "codex", "--version"]),
        "srt": version([found.srt or "srt", "--version"]),
    }
    path = save("launch", "make bench", {"launch": summary}, not_working=bad, versions=versions)
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
