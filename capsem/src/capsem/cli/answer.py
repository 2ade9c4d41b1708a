"""`capsem answer`: allow or deny what a machine waits for.

capsem answer 630dc14d5f1d allow --scope host --for 10m
"""

from __future__ import annotations

import asyncio

import click

from capsem.cli import terminal
from capsem.cli.asks import waiting
from capsem.errors import NotFoundError, UsageError
from capsem.host import operation
from capsem.wire.monitor import Answer, Result
from capsule.policy.quantities import EXPECTED, parse_quantity


@click.command("answer", epilog="Example: capsem answer 630dc14d5f1d allow --scope host --for 10m")
@click.argument("ask", metavar="ID")
@click.argument("action", type=click.Choice(["allow", "deny"]))
@click.option(
    "--scope",
    type=click.Choice(["once", "path", "host"]),
    default="once",
    help="Also for what comes: its method and path, or its host (once).",
)
@click.option(
    "--for",
    "duration",
    metavar="TIME",
    help="How long that holds, such as 10m; else until the machine's network ends.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, ask: str, action: str, scope: str, duration: str | None, as_json: bool) -> None:
    """Answer an ask. Exits 0 when the answer was taken; 1 when the ask is gone or out of time."""
    if duration is not None and scope == "once":
        raise UsageError("--for goes with --scope path or --scope host", next_step="add --scope host")
    for_ms = None if duration is None else _milliseconds(duration)
    place = next((socket for socket, untrusted in waiting(0) if untrusted.get("id") == ask), None)
    if place is None:
        raise NotFoundError(f"no ask {ask[:80]!r} waits", next_step="see capsem asks")
    given = Answer(ask, action, scope, for_ms)  # type: ignore[arg-type]
    said = asyncio.run(operation.answer(place, given, Result, "say what became of the answer"))
    if as_json:
        terminal.say_json({"id": ask, "action": action, "scope": scope, "for_ms": for_ms, **said.value})
    else:
        terminal.say(f"{ask}: {said.value['outcome']}")


def _milliseconds(text: str) -> int | None:
    """A time as policies write it; None: no end."""
    try:
        return parse_quantity(text, "duration")
    except ValueError:
        raise UsageError(f"--for is {text[:40]!r}", next_step=f"write {EXPECTED['duration']}") from None
