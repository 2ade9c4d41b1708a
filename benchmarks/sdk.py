"""How long does a tool call take, cold and warm, beside what a program would do without Capsule?

Peers in the same run: the same function in a fresh interpreter (`subprocess`, not sandboxed), a forked child of a
warm interpreter (`multiprocessing`-like, not sandboxed), and `capsule.run` of `true`.

Run: ``python -m benchmarks.sdk [--calls N]``
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import save, summarise, table

TOOLS = """
import capsule
@capsule.tool
def add(a: int, b: int) -> int: return a + b
@capsule.tool
async def add_later(a: int, b: int) -> int: return a + b
"""


def timed(work: Callable[[], object], rounds: int, pause: float = 0.0) -> list[float]:
    """Milliseconds of each round, sorted."""
    times = []
    for _ in range(rounds):
        if pause:
            time.sleep(pause)
        start = time.perf_counter_ns()
        work()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return sorted(times)


def forked() -> None:
    """Fork, answer through a pipe, wait: the least a process per call can cost here."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"3")
        os._exit(0)
    os.close(writing)
    os.read(reading, 10)
    os.close(reading)
    os.waitpid(pid, 0)


def main() -> None:
    """Measure, print a table, save the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        Path("bench_tools.py").write_text(TOOLS)
        sys.path.insert(0, place)
        import bench_tools  # type: ignore[import-not-found]

        import capsule
        from capsule.sdk.pool import POOL

        def cold() -> None:
            POOL.close()
            bench_tools.add(1, 2)

        async def loop() -> list[float]:
            await bench_tools.add_later(1, 2)
            times = []
            for n in range(calls // 4):
                start = time.perf_counter_ns()
                await bench_tools.add_later(n, 2)
                times.append((time.perf_counter_ns() - start) / 1e6)
            return sorted(times)

        argv = [sys.executable, "-I", "-c", "print(1 + 2)"]
        rows: dict[str, list[float]] = {}
        rows["fresh interpreter, not sandboxed"] = timed(
            lambda: subprocess.run(argv, capture_output=True, check=True), 30
        )
        rows["forked child, not sandboxed"] = timed(forked, calls)
        rows["capsule.run true"] = timed(lambda: capsule.run(["true"]), 50)
        rows["tool, cold (sandbox, interpreter, import)"] = timed(cold, 10)
        bench_tools.add(1, 2)
        rows["tool, warm, back to back"] = timed(lambda: bench_tools.add(1, 2), calls)
        rows["tool, warm, every 2 ms"] = timed(lambda: bench_tools.add(1, 2), calls // 2, 0.002)
        inside = sorted(bench_tools.add.call(1, 2).microseconds / 1000 for _ in range(calls // 2))
        rows["  of which in supervisor and child"] = inside
        with capsule.Sandbox() as box:
            box.run(["true"])
            rows["Sandbox.run true, warm"] = timed(lambda: box.run(["true"]), calls // 4)
        rows["async tool, warm"] = asyncio.run(loop())
        with ThreadPoolExecutor(50) as pool:
            start = time.perf_counter()
            list(pool.map(lambda n: bench_tools.add(n, 1), range(calls)))
            each = (time.perf_counter() - start) * 1000 / calls
        rows["50 threads, wall time per call"] = [each]
        POOL.close()
    found = summarise(rows, reference="forked child, not sandboxed")
    print(table(found))
    for name in ("tool, warm, back to back", "tool, warm, every 2 ms", "async tool, warm"):
        print(f"{name}: p99 {rows[name][int(len(rows[name]) * 0.99)]:.3f} ms")
    save("sdk", "python -m benchmarks.sdk", {"one call of a Python function": found})


if __name__ == "__main__":
    main()
