"""`capsem run`: one command in a temporary machine.

capsem run -- uname -a
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import Seconds, command_of, machine_body, machine_options, made
from capsem.cli.attach import attached, window
from capsem.cli.report import Course, reported
from capsem.errors import CapsemError, NotFoundError, UsageError
from capsem.host.lease import Lease
from capsem.host.service import call
from capsem.wire.monitor import Exec


async def in_temporary_machine(
    body: dict[str, Any],
    asked: Exec,
    *,
    apply: bool = False,
    course: Course | None = None,
    as_json: bool = False,
) -> int:
    """Make a machine, run the command in it, remove the machine, whatever happens: it is leased, and ends with us.

    With `apply`, what changed in the workspace is taken over first; where that cannot be, the machine stays.
    """
    if apply and body["workspace"] is None:
        raise UsageError("--apply without a workspace", next_step="name the directory: --workspace DIR")
    if apply and body["share"] == "live":
        raise UsageError(
            "--apply with a live share: what the machine writes is in the directory already",
            next_step="leave --apply or --share live out",
        )
    course = course or Course()
    lease, keep = Lease(), False
    machine = course.machine = await made(body, lease)
    try:
        code = await attached(Path(machine["socket"]), asked, course, as_json=as_json)
        if body["workspace"] is not None and body["share"] == "copy":
            # Loaded for a machine that has a workspace.
            from capsem.cli.apply import at_the_end

            # What goes wrong here must not take the work away with the machine.
            keep = apply
            keep = not await at_the_end(machine, apply=apply)
        return code
    finally:
        if keep:
            await lease.let_stay()
            terminal.complain(
                [f"{machine['id']} stays, with what was not taken over: capsem diff {machine['id']}"]
            )
        else:
            await _removed(machine["id"])
        await lease.close()


async def _removed(machine: str) -> None:
    try:
        if (name := (await call("GET", f"/machines/{machine}"))["name"]) is not None:
            terminal.complain([f"{machine} was given the name {name}, and stays"])
            return
        await call("POST", f"/machines/{machine}/delete", {"force": True})
    except NotFoundError:
        return  # it has ended by itself
    except CapsemError as error:
        sys.stderr.write(f"capsem: {machine} was not removed: {error}\n")


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
    asked = Exec(
        argv=command_of(argv), stdin=True, tty=window() if tty else None, timeout_ms=timeout,
    )  # fmt: skip
    body = machine_body(**options)

    async def work(course: Course) -> int:
        return await in_temporary_machine(body, asked, apply=apply, course=course, as_json=as_json)

    return reported(asked.argv, work, Course(), as_json=as_json)
