"""`capsem query`: SQL over what is recorded of a machine; it only reads.

capsem query build "SELECT host, count(*) FROM http GROUP BY host"
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.cli.asking import RecordedName, recorded
from capsule.cli.sessions.query import answer_options, say_answer


@click.command(
    "query", epilog="Example: capsem query build 'SELECT method, host, path, status, action FROM http'"
)
@click.argument("machine", type=RecordedName())
@click.argument("sql")
@answer_options
def command(*, machine: str, sql: str, limit: int, seconds: float, as_json: bool) -> None:
    """Answer one SELECT over a machine's tables: commands, http, dns, tcp, model, decisions, asks, findings, events.

    They are those of `capsule sessions query` (docs/formats/sessions.md). It only reads. Also of one that was deleted,
    by its id.
    """
    found, _ = recorded(machine)
    answer = found.ask(sql, limit=limit, seconds=seconds)
    terminal.complain(found.notes)
    say_answer(answer, limit=limit, as_json=as_json)
