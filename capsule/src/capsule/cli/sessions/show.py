"""`capsule sessions show`: one session, counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capsule.cli import terminal
from capsule.cli.sessions.source import SessionName, find, log_option, opened
from capsule.cli.sessions.story import View, activity, header, public, sections
from capsule.cli.sessions.table import painter, plain_letters, width
from capsule.sessions.timeline import Told, tell


@click.command("show", epilog="Example: capsule sessions show r-898ab5d2")
@click.argument("session", metavar="[SESSION]", required=False, type=SessionName())
@log_option
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(*, session: str | None, logs: tuple[Path, ...], as_json: bool) -> None:
    """Show what a session (the newest, or SESSION) did: programs, files, hosts, model calls, refusals, findings."""
    with opened(logs) as reader:
        run = find(reader, session, logs)
        told = tell(run, reader.happened(run))
    if as_json:
        terminal.say_json(counted(told))
        return
    view = view_here()
    terminal.say_painted(header(run, view))
    terminal.say_painted(activity(told, view))
    terminal.say()
    terminal.say_painted(sections(told, view))


def view_here(most: int = 0) -> View:
    """As this terminal shows it."""
    return View(width(), painter(), ascii_only=plain_letters(), home=str(Path.home()), most=most)


def counted(told: Told) -> dict[str, Any]:
    """A session's counts for programs."""
    return {
        "session": public(told.run),
        "events": told.events,
        "programs": dict(told.programs),
        "files": {place: dict(counts) for place, counts in told.files.items()},
        "hosts": {
            host: {
                "requests": use.requests, "blocked": use.blocked, "bytes_out": use.bytes_out,
                "bytes_in": use.bytes_in, "methods": dict(use.methods),
            }
            for host, use in told.hosts.items()
        },
        "names": [{"name": name, "action": action, "count": n} for (name, action), n in told.names.items()],
        "models": {
            name: {
                "calls": use.calls, "input_tokens": use.input_tokens, "cached_tokens": use.cached_tokens,
                "output_tokens": use.output_tokens, "cost_microdollars": use.cost, "unpriced": use.unpriced,
            }
            for name, use in told.models.items()
        },
        "tools": [{"tool": tool, "server": server or None, "count": n} for (tool, server), n in told.tools.items()],
        "denied": [
            {
                "operation": found.operation, "target": found.target, "program": found.program,
                "rule": found.rule or None, "allow": found.allow or None, "probe": found.probe, "count": found.count,
            }
            for found in told.denied.values()
        ],
        "findings": [{"level": level, "title": title, "count": n} for (level, title), n in told.findings.items()],
        "asks": dict(told.asks),
        "other": dict(told.unknown),
    }  # fmt: skip
