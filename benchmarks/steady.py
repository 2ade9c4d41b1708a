"""What does the sandbox cost a program that is already running, and what does profiling cost?

Four jobs: an import storm, gcc on a hello world, ``pip list`` and ``git status``; bare, under ``capsule run`` at
each audit level, under ``capsule trace`` (what ``capsule profile`` runs) and under ``strace -f -c``. The launch
itself is measured with ``true`` in the same rounds as each job and subtracted for the steady-state ratio, because a
fixed millisecond is not a rate; both ratios are shown. The floor is the same walls with each question of the filter
answered unseen, and with a filter that asks nothing (`benchmarks.floor`); how many questions a job makes is shown too.

Real-time priority (``chrt``) distorts this on few cores: monitor and program then wait for each other's time slice.

Run: ``python -m benchmarks.steady [--rounds N]``
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import peers as peer_commands
from benchmarks.floor import ASKED, UNASKED, Floor
from benchmarks.launch import capsule_binary, working
from benchmarks.measure import NotWorkingError, Row, interleaved, save, summarise, table

LAUNCH = "launch of "
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'


def jobs(where: Path) -> dict[str, list[str]]:
    """The command lines of the jobs."""
    (where / "hello.c").write_text(HELLO)
    python = os.path.realpath(sys.executable)
    return {
        "import storm": [
            python,
            "-I",
            "-c",
            "import json, ssl, asyncio, email, http.client, xml.dom.minidom, decimal",
        ],
        "gcc hello.c": ["/usr/bin/gcc", "-o", "hello", "hello.c"],
        "pip list": [python, "-I", "-m", "pip", "--disable-pip-version-check", "list"],
        "git status": ["/usr/bin/git", "status", "--short"],
    }


def variants(job: Sequence[str], where: Path, floor: Floor | None) -> dict[str, list[str]]:
    """One job under every kind of watch."""
    capsule = capsule_binary()
    strace = peer_commands.find().strace
    # A level is part of a policy: the command line can only raise it.
    (where.parent / "run.yaml").write_text("version: 1\nextends: [workspace]\naudit: run\n")
    quiet = str(where.parent / "run.yaml")
    rows = {
        "bare": list(job),
        "capsule run (audit run)": [capsule, "run", "--policy", quiet, "--", *job],
        "capsule run (audit writes)": [capsule, "run", "--", *job],
        "capsule run --audit all": [capsule, "run", "--audit", "all", "--", *job],
        "capsule trace": [capsule, "trace", "--out", str(where / "observation.json"), "--", *job],
    }
    if floor:
        rows[ASKED] = floor.around(job)
        rows[UNASKED] = floor.around(job, "unasked")
    if strace:
        rows["strace -f -c"] = [strace, "-f", "-c", "-o", "/dev/null", *job]
    return rows


def net_of_launch(times: dict[str, list[float]], launch: dict[str, list[float]]) -> dict[str, float]:
    """Median time of each variant less what the same variant takes for ``true``, as a ratio to bare."""
    bare = statistics.median(times["bare"]) - statistics.median(launch["bare"])
    return {
        name: round((statistics.median(values) - statistics.median(launch[name])) / bare, 4)
        for name, values in times.items()
        if name in launch
    }


def main() -> int:
    """Measure every job, print tables, write ``results/steady.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", action="append", help="one of the jobs; repeatable")
    options = parser.parse_args()
    sections: dict[str, list[Row]] = {}
    steady: dict[str, dict[str, float]] = {}
    asks: dict[str, int] = {}
    broken: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="capsule-bench-", dir="/var/tmp") as top:
        where = Path(top, "work")
        where.mkdir()
        subprocess.run(["git", "init", "-q", str(where)], check=True)
        floor = None
        try:
            floor = Floor.build(str(where), Path(top, "walls.txt"))
        except NotWorkingError as error:
            broken["the floor"] = str(error)
        for title, job in jobs(where).items():
            if options.only and title not in options.only:
                continue
            good, bad = working(variants(job, where, floor), str(where))
            broken.update({f"{title}: {k}": v for k, v in bad.items()})
            if floor:
                asks[title] = floor.asks(job, str(where))
            nothing = variants(["/usr/bin/true"], where, floor)
            both = good | {LAUNCH + name: nothing[name] for name in good}
            times = interleaved(both, options.rounds, cwd=str(where))
            sections[title] = summarise({name: times[name] for name in good}, "bare")
            steady[title] = net_of_launch(
                {name: times[name] for name in good}, {name: times[LAUNCH + name] for name in good}
            )
            print(f"\n{title}: {asks.get(title, 'unknown')} asks\n{table(sections[title])}")
            for name, ratio in steady[title].items():
                print(f"    less its launch: {name:<34} {ratio:6.3f}")
    for name, why in broken.items():
        print(f"not working here: {name}: {why}")
    if not options.only:
        path = save("steady", "make bench", sections, steady=steady, asks=asks, not_working=broken)
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
