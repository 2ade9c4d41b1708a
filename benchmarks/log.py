"""How fast is the log: appended, checked by its chain alone, checked in full; and what does it add to a short run?

The examples `log` (writer) and `floor` (each part of the verifier alone) are built with the crate and measured with it.
Targets: 400,000 entries a second; 5 million entries in under 0.3 s (chain) and 2.5 s (everything), in under 64 MB.

Run: ``python -m benchmarks.log [--entries N] [--rounds N]``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import NotWorkingError, save, summarise, table

NATIVE = Path(__file__).resolve().parents[1] / "capsule" / "native"


def build() -> Path:
    """Build the examples as the binary is built; the directory they and it are in."""
    done = subprocess.run(
        ["cargo", "build", "--release", "--examples", "--bins", "--message-format=json"],
        cwd=NATIVE, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    built = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    programs = [Path(row["executable"]) for row in built if row.get("executable")]
    return next(path.parent for path in programs if path.name == "capsule")


def run(argv: Sequence[str | Path], env: dict[str, str]) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects that a program prints, and the most memory it held, in kilobytes.

    Raises:
        NotWorkingError: it failed.
    """
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        rows = [json.loads(line) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise NotWorkingError(f"{argv[0]}: exit {process.returncode}")
    return rows, usage.ru_maxrss


def main() -> int:
    """Measure, print the table, write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    programs = build()
    capsule, writer, floor = programs / "capsule", programs / "examples/log", programs / "examples/floor"
    with tempfile.TemporaryDirectory(prefix="capsule-log-") as directory:
        place = Path(directory)
        env = os.environ | {f"XDG_{name}_HOME": str(place / name) for name in ("DATA", "STATE")}
        log, small = place / "big.log", place / "small.log"
        [appended], _ = run([writer, "append", log, str(options.entries)], env)
        [short], _ = run([writer, "run", small, "2000"], env)
        memory = 0
        times: dict[str, list[float]] = {"chain": [], "everything": []}
        for _ in range(options.rounds):
            for name, more in (("chain", ["--quick"]), ("everything", [])):
                start = time.perf_counter()
                [report], held = run([capsule, "verify", log, "--json", *more], env)
                times[name].append((time.perf_counter() - start) * 1000)
                memory = max(memory, held // 1024)
                if report["outcome"] != "verified" or report["log"]["entries"] != options.entries + 1:
                    raise NotWorkingError(f"{name}: {report['outcome']}")
        rows_of_parts, _ = run([floor, log], env)
    parts = {row["part"]: f"{row['ns_each']} ns, {row['gigabytes_per_second']} GB/s" for row in rows_of_parts}
    rows = summarise(times, "everything")
    print(table(rows))
    facts = {
        "entries": options.entries,
        "megabytes": appended["bytes"] // 1_000_000,
        "entries appended per second": int(appended["per_second"]),
        "most memory held while checking, MB": memory,
        "one short run (open, started, ended, two signatures), µs": short["median_us"],
        "each part of the check alone": parts,
    }
    for name, value in facts.items():
        print(f"{name}: {value}")
    save("log", "python -m benchmarks.log", {"log": rows}, **facts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
