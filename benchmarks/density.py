"""How does it grow from one machine to 40 at once: time until all are ready, memory of each, processor time at rest?

Memory is all of a machine's processes on this host: what they have alone (unique), and with their part of what they
share (proportional), fresh and after one command. At rest, beside so many QEMUs from the same template with nothing
around them. How many is bounded by this host's memory. Refuses a machine that does not run.

Run: ``python -m benchmarks.density [--most N] [--kernel stock]``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.bare import Bare, Template
from benchmarks.home import IMAGE, bench_home, memory_of, monitor_of, processes_of, processor_of, service_of
from benchmarks.machine import exec_true
from benchmarks.measure import save

STEPS = (1, 5, 10, 20, 40)
IDLE_SECONDS = 10.0
ROUNDS = 3
# What a machine may take while it is measured; the rest of the host keeps some.
EACH_MIB, KEPT_MIB = 150, 2048


def room(most: int) -> list[int]:
    """How many at once this host has memory for."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) >> 10
    return [step for step in STEPS if step <= most and step * EACH_MIB + KEPT_MIB <= free]


async def bare_at_rest(number: int, template: Template) -> float:
    """So many QEMUs from the same template with nothing around them, each after one command: % of a core at rest."""
    async with contextlib.AsyncExitStack() as stack:
        machines = [await stack.enter_async_context(Bare(template)) for _ in range(number)]
        for one in machines:
            await one.identify()
            await one.run("true")
        await asyncio.sleep(2)
        return await at_rest([one.qemu.pid for one in machines])


async def at_rest(pids: list[int]) -> float:
    """What some processes use of a core while nobody asks for anything."""
    before, begun = processor_of(pids), time.perf_counter()
    await asyncio.sleep(IDLE_SECONDS)
    return round(100 * (processor_of(pids) - before) / (time.perf_counter() - begun), 1)


async def at_once(number: int, home: Path, *, look: bool) -> dict[str, Any]:
    """So many, made at once; with `look`, also what they take once they rest."""
    from capsem.sdk.async_sandbox import AsyncSandbox

    start = time.perf_counter()
    boxes = await asyncio.gather(*(AsyncSandbox.create(IMAGE) for _ in range(number)))
    found: dict[str, Any] = {"all ready, ms": round((time.perf_counter() - start) * 1000)}
    try:
        if not look:
            return found
        fresh = [processes_of(monitor_of(await box.get_info())) for box in boxes]
        found["unique, fresh, MB"] = _megabytes([memory_of(pids).unique for pids in fresh])
        await asyncio.gather(*(exec_true(box) for box in boxes))
        await asyncio.sleep(2)
        machines = [processes_of(monitor_of(await box.get_info())) for box in boxes]
        memory = [memory_of(pids) for pids in machines]
        found["unique, MB"] = _megabytes([one.unique for one in memory])
        found["proportional, MB"] = _megabytes([one.proportional for one in memory])
        found["processes"] = len(machines[0])
        watched = [pid for pids in machines for pid in pids] + [service_of(home)]
        found["at rest, % of a core"] = await at_rest(watched)
    finally:
        await asyncio.gather(*(box.kill() for box in boxes))
    return found


def _megabytes(values: list[int]) -> float:
    return round(statistics.median(values) / 1e6, 1)


async def measured(most: int, home: Path) -> tuple[dict[str, object], str]:
    """All steps."""
    from capsem.host.service import call

    host = await call("GET", "/host")
    await at_once(1, home, look=False)  # the template is made
    steps: dict[str, object] = {}
    for number in room(most):
        times = [(await at_once(number, home, look=False))["all ready, ms"] for _ in range(ROUNDS - 1)]
        found = await at_once(number, home, look=True)
        times.append(found["all ready, ms"])
        found["all ready, ms"] = statistics.median(times)
        with Template(home) as template:
            found["bare QEMUs at rest, % of a core"] = await bare_at_rest(number, template)
        steps[str(number)] = found
        print(number, found, flush=True)
    return steps, host["accelerator"] + (f" ({host['why']})" if host["why"] else "")


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=STEPS[-1])
    parser.add_argument("--kernel", choices=["stock", "hardened"], default="stock")
    given = parser.parse_args()
    with bench_home(given.kernel) as home:
        steps, accelerator = asyncio.run(measured(given.most, home))
    facts: dict[str, object] = {
        "accelerator": accelerator, "kernel": given.kernel, "memory of a machine, MiB": 512, "machines at once": steps,
    }  # fmt: skip
    save("density", f"python -m benchmarks.density --most {given.most} --kernel {given.kernel}", {}, **facts)


if __name__ == "__main__":
    main()
