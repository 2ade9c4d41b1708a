"""`capsule sessions timeline`: one session's story in time order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capsule.cli import terminal
from capsule.cli.sessions.show import counted, view_here
from capsule.cli.sessions.source import SessionName, find, log_option, opened
from capsule.cli.sessions.story import activity, beats, header, sections
from capsule.sessions.timeline import Told, tell

MOST = 45
"""Beats shown without --all."""


@click.command("timeline", epilog="Example: capsule sessions timeline r-898ab5d2 --all")
@click.argument("session", metavar="[SESSION]", required=False, type=SessionName())
@log_option
@click.option("--all", "all_", is_flag=True, help="Every beat, however many there are.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(*, session: str | None, logs: tuple[Path, ...], all_: bool, as_json: bool) -> None:
    """Tell the story of a session (the newest, or SESSION) in time order, then count what it used.

    Equal things after one another are one line. Times are since the session's start.
    """
    with opened(logs) as reader:
        run = find(reader, session, logs)
        told = tell(run, reader.happened(run))
    if as_json:
        terminal.say_json(told_json(told))
        return
    view = view_here(0 if all_ else MOST)
    terminal.say_painted(header(run, view))
    terminal.say_painted(activity(told, view))
    terminal.say_painted(beats(told, view))
    terminal.say()
    terminal.say_painted(sections(told, view))


def told_json(told: Told) -> dict[str, Any]:
    """A story and its counts, for programs."""
    story = [
        {
            "at_us": beat.at, "seq": beat.seq, "what": beat.verb, "program": beat.who or None,
            "names": dict(beat.names), "more": beat.more, "count": beat.count, "note": beat.note or None,
            "took_us": beat.took or None,
        }
        for beat in told.beats
    ]  # fmt: skip
    return {**counted(told), "story": story, "untold": told.untold}
