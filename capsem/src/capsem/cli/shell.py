"""`capsem shell`: a login shell on this terminal, in a machine that runs or in a temporary one.

capsem shell
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click

from capsem.cli.asking import MachineName, ask, machine_body, machine_options, socket_of
from capsem.cli.attach import attached, window
from capsem.cli.report import Course
from capsem.cli.run import apply_option
from capsem.cli.temporary import in_temporary_machine
from capsem.errors import UsageError
from capsem.wire.monitor import Exec


@click.command("shell", epilog="Example: capsem shell --workspace .")
@machine_options
@apply_option
@click.argument("machine", type=MachineName(), required=False)
def command(*, machine: str | None, apply: bool, **options: Any) -> int:
    """Open a shell. Without MACHINE, in a temporary one, which is gone afterwards."""
    if not sys.stdin.isatty():
        raise UsageError(
            "a shell needs a terminal, and standard input is none", next_step="use capsem exec or capsem run"
        )
    term = os.environ.get("TERM", "xterm-256color")
    asked = Exec(argv=("/bin/sh", "-l"), env={"TERM": term}, stdin=True, tty=window())
    if machine is None:
        return asyncio.run(in_temporary_machine(machine_body(**options), asked, apply=apply))
    found = ask("GET", f"/machines/{machine}")
    return asyncio.run(attached(socket_of(found, machine), asked, Course(found)))
