"""`capsem run`: one command in a temporary machine.

The machine is asked for first; what runs the command in it is loaded while the service makes it.

capsem run -- uname -a
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from capsem.cli.asking import Seconds, asked_ahead, command_of, machine_body, machine_options

if TYPE_CHECKING:
    from capsem.cli.report import Course
    from capsem.wire.monitor import Size

apply_option = click.option(
    "--apply",
    is_flag=True,
    help="Take over what changed in the workspace, if nothing of it is refused or in conflict.",
)


@click.command(
    "run",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: capsem run --json -- uname -a",
)
@machine_options
@apply_option
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal, which is this one.")
@click.option("--timeout", type=Seconds(), help="Kill it after this long; the exit code is then 124.")
@click.option(
    "--json", "as_json", is_flag=True, help="A report as one line of JSON, the last of standard error."
)
@click.argument("argv", nargs=-1, required=True)
def command(
    *, argv: tuple[str, ...], tty: bool, timeout: int | None, apply: bool, as_json: bool, **options: Any
) -> int:
    """Run a command in a machine of its own, which is gone afterwards."""
    words = command_of(argv)
    size = _window() if tty else None
    body = machine_body(**options)
    sent = None if apply else asked_ahead(body)
    from capsem.cli import report
    from capsem.cli.temporary import in_temporary_machine
    from capsem.wire.monitor import Exec

    asked = Exec(argv=words, stdin=True, tty=size, timeout_ms=timeout)

    async def work(course: Course) -> int:
        return await in_temporary_machine(body, asked, apply=apply, sent=sent, course=course, as_json=as_json)

    return report.reported(words, work, report.Course(), as_json=as_json)


def _window() -> Size:
    # Loaded for who wants a terminal.
    from capsem.cli.attach import window

    return window()
