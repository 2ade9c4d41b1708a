"""`capsem timeline`: a machine's story in order of time.

capsem timeline build
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.cli.asking import RecordedName, recorded
from capsem.vm.lifecycle import State

MOST = 45
"""Beats shown without --all."""


@click.command("timeline", epilog="Example: capsem timeline build --all")
@click.argument("machine", type=RecordedName())
@click.option("--all", "all_", is_flag=True, help="Every beat, however many there are.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, machine: str, all_: bool, as_json: bool) -> None:
    """Tell a machine's story: commands, files, names, requests, model calls, asks, findings, refusals, its life.

    Equal things after one another are one line. Times are since its first start. Also of one that was deleted, by its
    id. `host` is who works on the machine from outside; what the guest says of itself is marked so.
    """
    found, there = recorded(machine)
    told = found.told()
    terminal.complain(found.notes)
    # The words are those of `capsule sessions timeline`; loaded when there is something to say.
    from capsule.cli.sessions.show import view_here
    from capsule.cli.sessions.story import activity, beats, sections
    from capsule.cli.sessions.timeline import told_json

    if as_json:
        terminal.say_json({**told_json(told), "machine": found.machine})
        return
    about = there or {}
    state = str(about.get("state", State.DELETED))
    name = about.get("name") or found.last_start().get("name") or "-"
    view = view_here(0 if all_ else MOST)
    terminal.say(f"{found.machine}  {name}  {state}")
    terminal.say(f"  since   {told.run['started'][:19].replace('T', ' ')} UTC")
    terminal.say(f"  log     {found.log}, {told.events} entries")
    terminal.say_painted(activity(told, view))
    terminal.say_painted(beats(told, view))
    terminal.say()
    terminal.say_painted(sections(told, view))
