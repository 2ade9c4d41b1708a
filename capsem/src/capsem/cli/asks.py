"""`capsem asks`: what machines wait for an answer to, with what a person needs to judge it.

capsem asks --wait 30
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import ask
from capsem.errors import CapsemError
from capsem.host import operation
from capsem.wire.monitor import Asks, Waiting

TURN_MS = 500
"""Machines that start while others are waited for are seen after this."""


@click.command("asks", epilog="Example: capsem asks --wait 30")
@click.option(
    "--wait", metavar="SECONDS", type=click.IntRange(1, 120), help="Wait for one when there is none."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, wait: int | None, as_json: bool) -> int:
    """Show what waits for an answer: requests that a rule asks about, and hosts that no entry lists.

    Exits 0 when something waits, else 1.
    """
    until = time.monotonic() + (wait or 0)
    found = waiting(0)
    while not found and (left := until - time.monotonic()) > 0:
        found = waiting(min(TURN_MS, int(left * 1000)))
    if as_json:
        terminal.say_json({"asks": [untrusted for _, untrusted in found]})
        return 0 if found else 1
    # The words are those of `capsule asks`; loaded when there is something to say.
    from capsule.cli.asks import lines_of

    for _, untrusted in found:
        for line in lines_of(untrusted, time.time() * 1000):
            terminal.say(line.replace("  capsule answer ", "  capsem answer ", 1))
    if not found:
        terminal.say("nothing waits for an answer")
    return 0 if found else 1


def waiting(wait_ms: int) -> list[tuple[Path, dict[str, Any]]]:
    """What waits in every machine that runs, with the machine's socket."""
    machines = [one for one in ask("GET", "/machines") if one["status"] is not None]
    if not machines:
        time.sleep(wait_ms / 1000)
        return []
    return asyncio.run(_of_all([Path(one["socket"]) for one in machines], wait_ms))


async def _of_all(sockets: list[Path], wait_ms: int) -> list[tuple[Path, dict[str, Any]]]:
    answers = await asyncio.gather(*(_of(socket, wait_ms) for socket in sockets))
    return [(socket, one) for socket, found in zip(sockets, answers, strict=True) for one in found]


async def _of(socket: Path, wait_ms: int) -> tuple[dict[str, Any], ...]:
    try:
        return (await operation.answer(socket, Asks(wait_ms), Waiting, "say what waits")).asks
    except CapsemError:
        return ()  # it has ended meanwhile
