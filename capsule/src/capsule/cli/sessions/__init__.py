"""`capsule sessions`: what ran, asked of an index over the logs."""

from __future__ import annotations

import click

from capsule.cli.lazy import LazyGroup


@click.group(
    "sessions",
    cls=LazyGroup,
    verbs={
        "export": ("capsule.cli.sessions.export", "Export sessions as JSON lines, or for OpenTelemetry."),
        "list": ("capsule.cli.sessions.list", "List sessions, newest first."),
        "query": ("capsule.cli.sessions.query", "Ask the database in SQL; it only reads."),
        "rebuild": ("capsule.cli.sessions.rebuild", "Make the database again from the logs, or compare it."),
        "show": ("capsule.cli.sessions.show", "Show what one session did, counted."),
        "timeline": ("capsule.cli.sessions.timeline", "Tell one session's story in time order."),
    },
    epilog="Example: capsule sessions timeline",
)
def command() -> None:
    """Look at past runs: the session database is an index over logs, brought up to date by every verb."""
