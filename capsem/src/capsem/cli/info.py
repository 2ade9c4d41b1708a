"""`capsem info`: one machine, also one that was deleted.

capsem info build
"""

from __future__ import annotations

from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import RecordedName, recorded
from capsem.errors import NotFoundError
from capsem.host.usage import of_machine
from capsem.vm.lifecycle import State


@click.command("info", epilog="Example: capsem info build --json")
@click.argument("machine", type=RecordedName())
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, as_json: bool) -> None:
    """Show a machine: what was asked for, how it is, where its log is, and how much of what is on it.

    Of one that was deleted, by its id: what its log tells.
    """
    found = _found(machine)
    found["takes"] = of_machine(found["id"])
    if as_json:
        terminal.say_json(found)
        return
    status, counts = found.pop("status", None) or {}, found.pop("recorded") or {}
    _say_rules(found)
    for name, value in {
        **found,
        **{key: status[key] for key in ("kernel", "agent", "uptime_ms", "jobs") if key in status},
    }.items():
        if value is not None:
            terminal.say(f"{name + ':':<13} {terminal.megabytes(value) if name == 'takes' else value}")
    said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    if said:
        terminal.say(f"{'recorded:':<13} {said}")


def _say_rules(found: dict[str, Any]) -> None:
    """Its rules, with what holds for what they say nothing of."""
    files, unruled = found.pop("rules", None), found.pop("unruled", None)
    if files is None:
        return
    if files:
        found["rules"] = f"{', '.join(files)} (commands and files that none of them allows are {unruled})"
    else:
        found["rules"] = f"none (commands and files are {unruled})"


def _found(machine: str) -> dict[str, Any]:
    try:
        on_record, there = recorded(machine)
    except NotFoundError:
        # A machine that never started has no log.
        from capsem.cli.asking import ask

        return {**ask("GET", f"/machines/{machine}"), "recorded": None}
    counts = on_record.counted()
    terminal.complain(on_record.notes)
    if there is not None:
        return {**there, "recorded": counts}
    last = on_record.last_start()
    return {
        "id": on_record.machine, "name": last.get("name"), "digest": last.get("image"), "state": State.DELETED.value,
        "created": last["first"], "last_entry": last["last"], "log": str(on_record.log), "recorded": counts,
    }  # fmt: skip
