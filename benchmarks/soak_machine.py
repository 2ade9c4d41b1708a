"""Does a service stay as it is while machines come and go: processes, descriptors, memory, disk?

Loops side by side: a machine is made, runs commands, writes and reads a file, asks the network for what it may not
have, is branched or suspended and resumed now and then, and is deleted. After each part of the time, when no machine is
there, what is left is counted, and judged: more processes, descriptors, threads, sessions or sockets than after the
first part is a leak, and so is memory or disk that grows with every machine. Refuses a result with a failed act or a
leak.

Run: ``python -m benchmarks.soak_machine [--seconds N]``
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.home import IMAGE, bench_home, children, memory_of, service_of
from benchmarks.machine import exec_true
from benchmarks.measure import NotWorkingError, save

LOOPS = 3
PARTS = 5


@dataclass
class Soak:
    """What a soak came to."""

    machines: int = 0
    commands: int = 0
    branches: int = 0
    resumed: int = 0
    slowest: float = 0.0
    failed: list[str] = field(default_factory=list)


async def life(soak: Soak, chance: random.Random) -> None:
    """One machine's."""
    from capsem.sdk.async_sandbox import AsyncSandbox

    box = await AsyncSandbox.create(IMAGE)
    soak.machines += 1
    try:
        for _ in range(3):
            begun = time.perf_counter()
            await exec_true(box)
            soak.slowest = max(soak.slowest, time.perf_counter() - begun)
            soak.commands += 1
        content = chance.randbytes(200_000)
        await box.files.write("/root/x", content)
        if await box.files.read("/root/x", format="bytes") != content:
            raise NotWorkingError("a file came back changed")
        refused = await box.commands.run(["curl", "-sS", "--max-time", "20", "https://hidden.example/"])
        if refused.exit_code == 0:
            raise NotWorkingError("a host that nothing lists was reached")
        what = chance.random()
        if what < 0.2:
            for child in await box.branch(2):
                await exec_true(child)
                await child.kill()
            soak.branches += 2
        elif what < 0.4:
            await box.pause()
            await box.resume()
            await exec_true(box)
            soak.resumed += 1
    finally:
        await box.kill()


async def loop(soak: Soak, seed: int, until: float) -> None:
    """One machine after another."""
    chance = random.Random(seed)
    while time.monotonic() < until:
        try:
            await life(soak, chance)
        except Exception as error:  # noqa: BLE001 - counted, and the result is refused
            soak.failed.append(f"{type(error).__name__}: {error}"[:300])


def _entries(directory: Path) -> int:
    return len(list(directory.iterdir()))


def _shared_memory() -> int:
    """Of the whole host, MB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Shmem:")).split()[1]) // 1000


def left(home: Path) -> dict[str, Any]:
    """What there is when no machine is."""
    service = service_of(home)
    tree = children()
    below, waiting = [], list(tree.get(service, []))
    while waiting:
        below.append(one := waiting.pop())
        waiting += tree.get(one, [])
    known = [service, *below]
    strays = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in {*known, os.getpid()}:
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            strays += f"CAPSEM_HOME={home}\0".encode() in environment
    logs = sum(one.stat().st_blocks * 512 for one in (home / "logs").rglob("*") if one.is_file())
    disk = sum(
        one.stat().st_blocks * 512 for one in home.rglob("*") if one.is_file() and not one.is_symlink()
    )
    return {
        "processes of the service": len(known), "other processes": strays,
        "descriptors": sum(_entries(Path(f"/proc/{pid}/fd")) for pid in known),
        "threads": sum(_entries(Path(f"/proc/{pid}/task")) for pid in known),
        "memory, MB": round(memory_of(known).unique / 1e6, 1),
        "sessions": _entries(home / "sessions"), "sockets": len(list((home / "run").glob("m-*"))),
        "disk without logs, MB": round((disk - logs) / 1e6, 1),
        "logs, MB": round(logs / 1e6, 1),
        "shared memory of the host, MB": _shared_memory(),
    }  # fmt: skip


async def soaked(seconds: float, home: Path) -> tuple[Soak, list[dict[str, Any]]]:
    """All of it, and what was left after each part."""
    soak, seen = Soak(), []
    await life(Soak(), random.Random(0))  # the template is made
    for part in range(PARTS):
        until = time.monotonic() + seconds / PARTS
        await asyncio.gather(*(loop(soak, part * LOOPS + number, until) for number in range(LOOPS)))
        await asyncio.sleep(2)
        seen.append(left(home))
        print(part, soak.machines, soak.failed[-1:], seen[-1], flush=True)
    return soak, seen


MEMORY_A_MACHINE, DISK_A_MACHINE = 0.1, 0.02
"""MB by which the service, and what is kept beside logs, may grow for each machine that came and went."""


def leaks(first: dict[str, Any], last: dict[str, Any], machines: int) -> list[str]:
    """What grew from the first part's end to the last's, in words.

    Args:
        first: what was left then (`left`).
        last: what is left now.
        machines: how many came and went between.
    """
    counted = ("processes of the service", "other processes", "descriptors", "sessions", "sockets")
    found = [f"{name}: {first[name]} to {last[name]}" for name in counted if last[name] > first[name]]
    # A pool of threads grows to its end; what is more than all pools is a leak.
    pool = last["processes of the service"] * (1 + min(32, (os.cpu_count() or 1) + 4))
    if last["threads"] > max(first["threads"], pool):
        found.append(f"threads: {first['threads']} to {last['threads']}")
    for name, most in (("memory, MB", MEMORY_A_MACHINE), ("disk without logs, MB", DISK_A_MACHINE)):
        grown = last[name] - first[name]
        # A thread's arena, or a cache that was filled late, is no leak: it does not come with each machine.
        if grown > max(8.0, most * machines):
            found.append(f"{name}: {first[name]} to {last[name]} with {machines} machines")
    return found


def main() -> None:
    """Soak, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--kernel", choices=["stock", "hardened"], default="stock")
    given = parser.parse_args()
    with bench_home(given.kernel) as home:
        soak, seen = asyncio.run(soaked(given.seconds, home))
    first, last = seen[0], seen[-1]
    facts: dict[str, object] = {
        "seconds": given.seconds, "machines": soak.machines, "commands": soak.commands, "branches": soak.branches,
        "suspended and resumed": soak.resumed, "acts that failed": len(soak.failed),
        "slowest command, s": round(soak.slowest, 2),
        **{f"{name}, from the first part to the last": [first[name], last[name]] for name in first},
        "processes, descriptors, sessions and sockets more than at first": sum(
            max(0, last[name] - first[name])
            for name in ("processes of the service", "other processes", "descriptors", "sessions", "sockets")
        ),
        "memory more than at first, MB": round(last["memory, MB"] - first["memory, MB"], 1),
        "disk more than at first, MB": round(last["disk without logs, MB"] - first["disk without logs, MB"], 1),
    }  # fmt: skip
    for key, value in facts.items():
        print(f"{key}: {value}")
    if soak.failed:
        raise NotWorkingError("; ".join(soak.failed[:3]))
    grown = leaks(first, last, soak.machines)
    print("verdict:", "; ".join(grown) or "nothing is left behind")
    if grown:
        raise NotWorkingError("; ".join(grown))
    save(
        "soak_machine",
        f"python -m benchmarks.soak_machine --seconds {given.seconds:g} --kernel {given.kernel}",
        {},
        **facts,
    )


if __name__ == "__main__":
    main()
