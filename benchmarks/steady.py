"""What does the sandbox cost a program that is already running, and what does profiling cost?

Four jobs: an import storm, gcc on a hello world, ``pip list`` and ``git status``; bare, under ``capsule run`` at
each audit level, under ``capsule trace`` (what ``capsule profile`` runs) and under ``strace -f -c``. The launch
itself is measured with ``true`` in the same rounds and subtracted for the steady-state ratio, because a fixed
millisecond is not a rate; both ratios are shown.

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
from benchmarks.launch import capsule_binary, working
from benchmarks.measure import Row, interleaved, save, summarise, table

HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'


def jobs(where: Path) -> dict[str, list[str]]:
    """The command lines of the four jobs."""
    (where / "hello.c").write_text(HELLO)
    python = os.path.realpath(sys.executable)
    return {
        "true": ["/usr/bin/true"],
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


def variants(job: Sequence[str], where: Path) -> dict[str, list[str]]:
    """One job under every kind of watch."""
    capsule = capsule_binary()
    strace = peer_commands.find().strace
    rows = {
        "bare": list(job),
        "capsule run --audit run": [capsule, "run", "--audit", "run", "--", *job],
        "capsule run (audit writes)": [capsule, "run", "--", *job],
        "capsule run --audit all": [capsule, "run", "--audit", "all", "--", *job],
        "capsule trace": [capsule, "trace", "--out", str(where / "observation.json"), "--", *job],
    }
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
    options = parser.parse_args()
    sections: dict[str, list[Row]] = {}
    steady: dict[str, dict[str, float]] = {}
    broken: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="capsule-bench-", dir="/var/tmp") as top:
        where = Path(top, "work")
        where.mkdir()
        subprocess.run(["git", "init", "-q", str(where)], check=True)
        launch: dict[str, list[float]] = {}
        for title, job in jobs(where).items():
            good, bad = working(variants(job, where), str(where))
            broken.update({f"{title}: {k}": v for k, v in bad.items()})
            times = interleaved(good, options.rounds, cwd=str(where))
            sections[title] = summarise(times, "bare")
            if title == "true":
                launch = times
            else:
                steady[title] = net_of_launch(times, launch)
            print(f"\n{title}\n{table(sections[title])}")
            for name, ratio in steady.get(title, {}).items():
                print(f"    less its launch: {name:<30} {ratio:6.3f}")
    for name, why in broken.items():
        print(f"not working here: {name}: {why}")
    print(f"written: {save('steady', 'make bench', sections, steady=steady, not_working=broken)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
