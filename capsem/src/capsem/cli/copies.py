"""The verbs that make something of a machine as it is now: `fork` an image, `branch` machines.

capsem fork build with-tools && capsem create --image with-tools
"""

from __future__ import annotations

import asyncio

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask


@click.command("fork", epilog="Example: capsem fork work with-notes")
@click.argument("machine", type=MachineName())
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def fork(*, machine: str, name: str, as_json: bool) -> None:
    """Make an image called NAME of what is on a machine's disk.

    The machine may run: it stands still for a moment. The image needs the one it was made from at first, and no other.
    """
    found = ask("POST", f"/machines/{machine}/fork", {"name": name})
    if as_json:
        terminal.say_json(found)
    else:
        terminal.say(f"{found['name']}  {found['digest'][:12]}  {terminal.megabytes(found['bytes'])}")


@click.command("branch", epilog="Example: capsem branch work 2 -n try-a -n try-b")
@click.argument("machine", type=MachineName())
@click.argument("count", type=int, default=1)
@click.option("-n", "--name", "names", multiple=True, help="A name for each; without, they are temporary.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def branch(*, machine: str, count: int, names: tuple[str, ...], as_json: bool) -> None:
    """Make COUNT machines that go on from where a running one is now, memory and disk.

    The machine itself stands still for a moment and runs on. Each has its own random numbers, host name, clock, disk
    and log.
    """
    from capsem.host.secrets import begun

    found = asyncio.run(begun("branch", machine, {"count": count, "names": list(names)}))
    if as_json:
        terminal.say_json(found)
        return
    for one in found["machines"]:
        terminal.say(one["name"] or one["id"])
    terminal.complain([f"{machine} stood still for {found['paused_ms']} ms"])
