"""The verbs that end machines, keep them or start them again.

capsem stop build && capsem delete build
"""

from __future__ import annotations

import asyncio
from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask
from capsule.errors import CapsuleError


def _answer(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.say_json(found)
    else:
        terminal.say(f"{found['id']} {found['state']}")


def _begun(how: str, machine: str, body: object = None) -> Any:
    """Start it in some way; the secrets of its policy are had again from where that says, before anything is done."""
    from capsem.host.secrets import begun

    return asyncio.run(begun(how, machine, body))


def without_disk(machine: dict[str, Any]) -> None:
    """Say what a machine without a disk loses, to whoever has just made it last."""
    if machine["name"] and machine["disk_mib"] is None:
        kept = "" if machine.get("share") == "live" else "; capsem suspend keeps it"
        terminal.complain([f"{machine['name']} has no disk: a stop loses what was written in it{kept}"])


@click.command("start", epilog="Example: capsem start build")
@click.argument("machine", type=MachineName())
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def start(*, machine: str, as_json: bool) -> None:
    """Start a machine that was stopped.

    The secrets of its policy are had again, from where that says.
    """
    _answer(_begun("start", machine), as_json)


@click.command("restart", epilog="Example: capsem restart build")
@click.argument("machine", type=MachineName())
@click.option("-f", "--force", is_flag=True, help="At once, without asking the machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def restart(*, machine: str, force: bool, as_json: bool) -> None:
    """Stop a machine and start it from its disk."""
    _answer(_begun("restart", machine, {"force": force}), as_json)


@click.command("suspend", epilog="Example: capsem suspend build")
@click.argument("machine", type=MachineName())
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def suspend(*, machine: str, as_json: bool) -> None:
    """Keep a machine's memory and devices on the disk, and end it.

    `capsem resume` goes on from there, also after this host was off.
    """
    _answer(ask("POST", f"/machines/{machine}/suspend"), as_json)


@click.command("resume", epilog="Example: capsem resume build")
@click.argument("machine", type=MachineName())
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def resume(*, machine: str, as_json: bool) -> None:
    """Go on with a machine from where it was suspended.

    The secrets of its policy are had again, from where that says.
    """
    _answer(_begun("resume", machine), as_json)


@click.command("persist", epilog="Example: capsem persist m-4d1337f1 work")
@click.argument("machine", type=MachineName())
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def persist(*, machine: str, name: str, as_json: bool) -> None:
    """Give a temporary machine a name; from then on it outlives its stop."""
    found = ask("POST", f"/machines/{machine}/persist", {"name": name})
    if as_json:
        terminal.say_json(found)
    else:
        terminal.say(found["name"])
    without_disk(found)


@click.command("stop", epilog="Example: capsem stop build")
@click.argument("machine", type=MachineName())
@click.option("-f", "--force", is_flag=True, help="At once, without asking the machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def stop(*, machine: str, force: bool, as_json: bool) -> None:
    """Stop a machine; a temporary one is gone afterwards."""
    _answer(ask("POST", f"/machines/{machine}/stop", {"force": force}), as_json)


@click.command("delete", epilog="Example: capsem delete build")
@click.argument("machines", metavar="MACHINE...", type=MachineName(), nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Also when it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")
def delete(*, machines: tuple[str, ...], force: bool, as_json: bool) -> int:
    """Remove machines and their disks; their records stay.

    One that cannot be removed does not keep the others. Exits as the first of those does.
    """
    code = 0
    for machine in machines:
        try:
            _answer(ask("POST", f"/machines/{machine}/delete", {"force": force}), as_json)
        except CapsuleError as error:
            terminal.fault(error)
            if as_json:
                terminal.unanswered(error)
            code = code or error.exit_code
    return code


@click.command("purge", epilog="Example: capsem purge --logs 30")
@click.option("--all", "everything", is_flag=True, help="Also what runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@click.option(
    "--logs",
    "days",
    type=click.IntRange(min=0),
    metavar="DAYS",
    help="Also logs that old, of machines that are gone.",
)
def purge(*, everything: bool, days: int | None, as_json: bool) -> None:
    """Remove every machine that does not run.

    A log is evidence: it stays until --logs removes it.
    """
    found = ask("POST", "/purge", {"all": everything, "logs_older_than_days": days})
    if as_json:
        terminal.say_json(found)
        return
    said = [f"{one} deleted" for one in found["deleted"]] + [f"log of {one} removed" for one in found["logs"]]
    for line in said or ["nothing to remove"]:
        terminal.say(line)
