"""`capsem exec`: one command in a machine that runs.

capsem exec build -- make -j2
"""

from __future__ import annotations

import sys

import click

from capsem.cli.asking import MachineName, Seconds, command_of, socket_of, variables
from capsem.cli.attach import attached, window
from capsem.cli.report import Course, reported
from capsem.errors import UsageError
from capsem.host.service import call
from capsem.wire.monitor import Exec


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: capsem exec --json build -- make -j2",
)
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal, which is this one.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated.")
@click.option("-w", "--cwd", help="Where it runs.")
@click.option("-u", "--user", type=click.IntRange(0, (1 << 31) - 1), help="The user id it runs as.")
@click.option("--timeout", type=Seconds(), help="Kill it after this long; the exit code is then 124.")
@click.option(
    "--json", "as_json", is_flag=True, help="A report as one line of JSON, the last of standard error."
)
@click.argument("machine", type=MachineName())
@click.argument("argv", nargs=-1, required=True)
def command(
    *, tty: bool, env: tuple[str, ...], cwd: str | None, user: int | None, timeout: int | None, machine: str,
    argv: tuple[str, ...], as_json: bool,
) -> int:  # fmt: skip
    """Run a command in a machine; its streams and its exit code are ours.

    The report of --json has the exit code, its cause, and what the machine's log got meanwhile: requests, names, model
    calls, refusals with the line that would allow each, findings.
    """
    if tty and not sys.stdin.isatty():
        raise UsageError("-t needs a terminal, and standard input is none", next_step="leave -t out")
    if cwd is not None and not cwd.startswith("/"):
        raise UsageError(f"-w {cwd}: no absolute directory", next_step="write it from / on")
    if argv[0].startswith("-") and argv[0] != "--":
        raise UsageError(
            f"{argv[0]} stands behind the machine, where the command does",
            next_step=f"capsem exec {argv[0]} … {machine} -- COMMAND; a command of that name stands behind a --",
        )
    asked = Exec(
        argv=command_of(argv), env=variables(env), cwd=cwd, user=user, stdin=True,
        tty=window() if tty else None, timeout_ms=timeout,
    )  # fmt: skip

    async def work(course: Course) -> int:
        found = course.machine = await call("GET", f"/machines/{machine}")
        return await attached(socket_of(found, machine), asked, course, as_json=as_json)

    return reported(asked.argv, work, Course(), as_json=as_json)
