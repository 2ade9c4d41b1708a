"""How long does a tool call take, cold and warm, beside what a program would do without Capsule?

Peers in the same run: the same function in a fresh interpreter (`subprocess`, not sandboxed), a forked child of a
warm interpreter (`multiprocessing`-like, not sandboxed), and `capsule.run` of `true`. Calls back to back are bounded by
how fast the worker can fork: the floor is one `fork` of the same worker, an answer of one byte and the child's end,
measured inside the sandbox in the same rounds. A call now and then meets processes that sleep: its floor is a byte that
goes the same way and back, through one process to another, as often.

Run: ``python -m benchmarks.sdk [--calls N]``
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import save, summarise, table

ROUND = 50
"""Calls back to back between two looks at the floor."""


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


@contextmanager
def passed_on() -> Iterator[Callable[[], None]]:
    """A byte from here to a process, to another, and back the same way: four times somebody is woken."""
    (here, near), (far, end) = socket.socketpair(), socket.socketpair()

    def relay() -> None:
        while one := near.recv(1):
            far.sendall(one)
            near.sendall(far.recv(1))

    def echo() -> None:
        while one := end.recv(1):
            end.sendall(one)

    pids = []
    for work, foreign in ((relay, (here, end)), (echo, (here, near, far))):
        if (pid := os.fork()) == 0:
            for each in foreign:
                each.close()
            work()
            os._exit(0)
        pids.append(pid)
    for each in (near, far, end):
        each.close()

    def send() -> None:
        here.sendall(b"x")
        here.recv(1)

    try:
        yield send
    finally:
        here.close()
        for pid in pids:
            os.waitpid(pid, 0)


TOOLS = f"""
import capsule
import os
{inspect.getsource(forked)}
@capsule.tool
def add(a: int, b: int) -> int: return a + b
@capsule.tool
def forks(count: int) -> list:
    import gc, time
    gc.disable()
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        forked()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times
@capsule.tool
async def add_later(a: int, b: int) -> int: return a + b
"""


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
        together: list[float] = []
        least: list[float] = []
        bench_tools.forks(1)
        for _ in range(max(1, calls // ROUND)):
            together += timed(lambda: bench_tools.add(1, 2), ROUND)
            least += bench_tools.forks(ROUND // 2)
        rows["tool, warm, back to back"] = sorted(together)
        rows["fork and wait of the same worker"] = sorted(least)
        apart: list[float] = []
        woken: list[float] = []
        with passed_on() as send:
            for _ in range(max(1, calls // ROUND)):
                apart += timed(lambda: bench_tools.add(1, 2), ROUND // 2, 0.002)
                woken += timed(send, ROUND // 2, 0.002)
        rows["tool, warm, every 2 ms"] = sorted(apart)
        rows["a byte through two processes and back, every 2 ms"] = sorted(woken)
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
