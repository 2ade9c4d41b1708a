"""`capsule answer`: allow or deny what a run waits for."""

from __future__ import annotations

import re

import click

from capsule.cli import terminal
from capsule.cli.seam import Seam, SeamError
from capsule.errors import CapsuleError, Fault
from capsule.policy.quantities import EXPECTED, parse_quantity


class UnansweredError(CapsuleError):
    """The answer came too late, or to nothing."""

    fault = Fault.CALLER
    exit_code = 1


@click.command("answer", epilog="Example: capsule answer a7 allow --scope host --for 10m")
@click.argument("ask", metavar="ID")
@click.argument("action", type=click.Choice(["allow", "deny"]))
@click.option(
    "--scope",
    type=click.Choice(["once", "path", "host"]),
    default="once",
    help="Also for what comes: its method and path, or its host (once).",
)
@click.option(
    "--for", "duration", metavar="TIME", help="How long that holds, such as 10m; else until the run ends."
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(ask: str, action: str, scope: str, duration: str | None, as_json: bool) -> None:
    """Answer an ask. Exits 0 when the answer was taken; 1 when the ask is gone, answered or out of time."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,80}", ask):
        raise click.UsageError(f"{ask[:80]!r} is no ask's id; see: capsule asks")
    if duration is not None:
        if scope == "once":
            raise click.UsageError("--for goes with --scope path or --scope host")
        try:
            parse_quantity(duration, "duration")
        except ValueError:
            raise click.UsageError(f"--for is {duration[:40]!r}; expected {EXPECTED['duration']}") from None
    body = {"action": action, "scope": scope} | ({} if duration is None else {"for": duration})
    status, said = Seam().post(f"/asks/{ask}", body)
    if status in {404, 409}:
        raise UnansweredError(
            f"ask {ask}: {terminal.plain(said)[:200]}", next_step="see what waits: capsule asks"
        )
    if status != 204:
        raise SeamError(
            f"egress answered {status}: {terminal.plain(said)[:200]}",
            next_step="see what waits: capsule asks",
        )
    if as_json:
        terminal.say_json({"id": ask, **body})
    else:
        held = (
            ""
            if scope == "once"
            else f", and its {scope} {f'for {duration}' if duration else 'until the run ends'}"
        )
        terminal.say(f"{ask}: {'allowed' if action == 'allow' else 'denied'}{held}")
