"""How long does a machine take: to be made, run a command, be copied alive, suspended, resumed? How fast are bytes?

Everything goes through the service with the SDK, as a user has it. Beside it in the same rounds: a plain QEMU that
boots the same kernel and image until its agent speaks, and one that starts from a template with nothing around it (no
service, no monitor, no sandbox, no record), which nothing here can be faster than.

Run: ``python -m benchmarks.machine [--rounds N] [--kernel stock]``
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.bare import Bare, Template
from benchmarks.home import IMAGE, bench_home
from benchmarks.measure import NotWorkingError, Row, once, save, summarise, table, version
from capsem.processes.monitor.running import AHEAD_INPUTS, AHEAD_RUNS

MIB = 1 << 20
TRUE = ("true",)
RUN = [sys.executable, "-m", "capsem.cli", "run", "--image", IMAGE, "--", "true"]
NOTHING = [sys.executable, "-I", "-c", "pass"]


class Times:
    """Milliseconds by name."""

    def __init__(self) -> None:
        self.of: dict[str, list[float]] = {}

    async def take(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Time one piece of work."""
        start = time.perf_counter()
        found = await work()
        self.add(name, (time.perf_counter() - start) * 1000)
        return found

    def add(self, name: str, ms: float) -> None:
        """One more."""
        self.of.setdefault(name, []).append(ms)

    def rows(self, reference: str) -> list[Row]:
        """As rows, with ratios to one of them."""
        return summarise(self.of, reference)


async def exec_true(box: Any) -> None:
    """One command, to its end."""
    if (await box.commands.run(TRUE)).exit_code != 0:
        raise NotWorkingError("true did not end with 0")


async def made_and_used(times: Times) -> None:
    """From the question to the end of the first command; then the same command again."""
    from capsem.sdk.async_sandbox import AsyncSandbox

    begin = time.perf_counter()
    box = await times.take("create", lambda: AsyncSandbox.create(IMAGE))
    await times.take("first exec true", lambda: exec_true(box))
    times.add("create and exec true", (time.perf_counter() - begin) * 1000)
    for _ in range(5):
        await times.take("exec true again", lambda: exec_true(box))
    await times.take("delete", box.kill)


async def pooled(times: Times, home: Path) -> None:
    """The same of a machine that was made ahead."""
    from capsem.sdk.async_sandbox import AsyncSandbox

    until = time.monotonic() + 60
    while not list(home.glob("run/m-*.sock")):
        if time.monotonic() > until:
            raise NotWorkingError("no machine was made ahead")
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    begin = time.perf_counter()
    box = await times.take("create", lambda: AsyncSandbox.create(IMAGE))
    await times.take("first exec true", lambda: exec_true(box))
    times.add("create and exec true", (time.perf_counter() - begin) * 1000)
    await box.kill()


async def of_a_pool(rounds: int, home: Path) -> list[Row]:
    """One machine made ahead, and taken; beside it a bare one."""
    from capsem.sdk.async_sandbox import AsyncSandbox

    await (await AsyncSandbox.create(IMAGE)).kill()  # which plan is wanted
    times = Times()
    with Template(home) as template:
        for _ in range(rounds):
            await pooled(times, home)
            await bare_ahead(times, template)
    return times.rows("create and exec true")


async def booted(times: Times) -> None:
    """A plain QEMU with the same kernel and image, to the agent's first word."""
    from capsem.host.channel import Channel
    from capsem.host.images import open_image
    from tests.vm.machines import Machine

    with tempfile.TemporaryDirectory() as room:
        start = time.perf_counter()
        with Machine(open_image(IMAGE), Path(room), memory="512M") as machine:
            async with Channel({5000: machine.sockets[5000]}) as channel, asyncio.timeout(120):
                await channel.hello()
                times.add("plain QEMU, boot to the agent's word", (time.perf_counter() - start) * 1000)


async def bare_clone(times: Times, template: Template) -> None:
    """QEMU from the template that the service made, with nothing around it, to the end of `true`, and to its own."""
    async with Bare(template) as bare:
        await bare.identify()
        times.add("bare clone, to its identity", (time.perf_counter() - bare.begun) * 1000)
        for name in ("first exec true", "exec true again"):
            await times.take(f"bare clone, {name}", lambda: bare.run("true"))
        await times.take("bare clone, ended", bare.qemu.end)


async def bare_ahead(times: Times, template: Template) -> None:
    """The same made ahead: it has a first identity, ran what the pool's machines ran, and has come to rest."""
    async with Bare(template) as bare:
        for _ in range(AHEAD_RUNS):
            await bare.identify()
            for _ in AHEAD_INPUTS:
                await bare.run("true")
        await asyncio.sleep(0.5)
        begin = time.perf_counter()
        await bare.identify()
        await bare.run("true")
        times.add("bare clone made ahead, identity and exec true", (time.perf_counter() - begin) * 1000)


async def copied(times: Times, box: Any) -> None:
    """A live branch, and its child's answer."""
    from capsem.host.service import call
    from capsem.sdk.async_sandbox import AsyncSandbox

    found = await times.take(
        "branch, whole", lambda: call("POST", f"/machines/{box.sandbox_id}/branch", {"count": 1})
    )
    times.add("branch, parent paused", found["paused_ms"])
    if "answered_ms" in found:
        times.add("branch, child answers after the pause", found["answered_ms"])
    (child,) = (AsyncSandbox(machine) for machine in found["machines"])
    await times.take("branch, child's first exec true", lambda: exec_true(child))
    await child.kill()


async def kept(times: Times, box: Any) -> None:
    """Suspended and resumed, and a command in it."""
    await times.take("suspend", box.pause)
    await times.take("resume", box.resume)
    await times.take("first exec true after resume", lambda: exec_true(box))


async def echoed(times: Times, box: Any) -> None:
    """A key typed at a terminal, until it is shown."""
    from capsem.host.operation import Output, begin
    from capsem.wire.monitor import Exec, Size

    operation = await begin(box.socket, Exec(argv=("cat",), tty=Size(24, 80)))
    said = operation.__aiter__()

    async def shown() -> None:
        while not isinstance(await anext(said), Output):
            pass

    try:
        await anext(said)
        for _ in range(60):
            await asyncio.sleep(0.02)

            async def key() -> None:
                await operation.write(b"x")
                await shown()

            await times.take("a key at a terminal, shown", key)
    finally:
        await said.aclose()
        await operation.close()


async def bytes_moved(box: Any, size: int) -> dict[str, float]:
    """MB/s of a command's output, of a file in and of a file out."""
    from capsem.host.operation import Output, begin
    from capsem.wire.monitor import Exec

    rates: dict[str, float] = {}
    operation = await begin(box.socket, Exec(argv=("head", "-c", str(size), "/dev/zero")))
    got, start = 0, time.perf_counter()
    async for said in operation:
        if isinstance(said, Output):
            got += len(said.content)
    rates["exec output"] = size / 1e6 / (time.perf_counter() - start)
    await operation.close()
    if got != size:
        raise NotWorkingError(f"{got} bytes came of {size}")
    content = os.urandom(size)
    start = time.perf_counter()
    await box.files.write("/dev/shm/copy", content)
    rates["file in"] = size / 1e6 / (time.perf_counter() - start)
    start = time.perf_counter()
    back = await box.files.read("/dev/shm/copy", format="bytes")
    rates["file out"] = size / 1e6 / (time.perf_counter() - start)
    if back != content:
        raise NotWorkingError("a file came back changed")
    await box.files.remove("/dev/shm/copy")
    return rates


async def measured(rounds: int, home: Path, facts: dict[str, object]) -> dict[str, list[Row]]:
    """All of it."""
    from capsem.host.service import call
    from capsem.sdk.async_sandbox import AsyncSandbox

    host = await call("GET", "/host")
    facts["accelerator"] = host["accelerator"] + (f" ({host['why']})" if host["why"] else "")
    facts["QEMU"] = host["qemu"]
    first = await AsyncSandbox.create(IMAGE)  # the template is made, and every file read once
    await exec_true(first)
    await first.kill()
    life, copies, streams = Times(), Times(), Times()
    environment = dict(os.environ)
    rates: dict[str, list[float]] = {}
    with Template(home) as template:
        for _ in range(rounds):
            await made_and_used(life)
            await bare_clone(life, template)
            life.add("capsem run true, from a shell", await asyncio.to_thread(once, RUN, environment))
            life.add("an interpreter that does nothing", await asyncio.to_thread(once, NOTHING, environment))
        async with Bare(template) as bare:
            await bare.identify()
            for _ in range(3):
                rates.setdefault("bare clone, file in", []).append(await bare.file_in(128 * MIB))
    for _ in range(min(rounds, 5)):
        await booted(life)
    async with await AsyncSandbox.create(IMAGE, name="long") as box:
        await exec_true(box)
        for _ in range(min(rounds, 7)):
            await copied(copies, box)
        for _ in range(min(rounds, 7)):
            await kept(copies, box)
        await echoed(streams, box)
        for _ in range(3):
            for name, rate in (await bytes_moved(box, 128 * MIB)).items():
                rates.setdefault(name, []).append(rate)
        await box.kill()
    for name, values in rates.items():
        facts[f"{name}, MB/s"] = round(statistics.median(values), 1)
    return {
        "a machine": life.rows("create and exec true"), "copies": copies.rows("suspend"),
        "a terminal": streams.rows("a key at a terminal, shown"),
    }  # fmt: skip


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kernel", choices=["stock", "hardened"], default="stock")
    given = parser.parse_args()
    facts: dict[str, object] = {"kernel": given.kernel, "memory of a machine, MiB": 512}
    os.environ.pop("CAPSEM_POOL", None)
    with bench_home(given.kernel) as home:
        from tests.capsem.conftest import end_service

        sections = asyncio.run(measured(given.rounds, home, facts))
        end_service(home)
        os.environ["CAPSEM_POOL"] = "1"
        sections["from a pool"] = asyncio.run(of_a_pool(given.rounds, home))
    facts["versions"] = {"qemu": version(["qemu-system-x86_64", "--version"])}
    for title, rows in sections.items():
        print(f"{title}\n{table(rows)}\n")
    for key, value in facts.items():
        print(f"{key}: {value}")
    save(
        "machine",
        f"python -m benchmarks.machine --rounds {given.rounds} --kernel {given.kernel}",
        sections,
        **facts,
    )


if __name__ == "__main__":
    main()
