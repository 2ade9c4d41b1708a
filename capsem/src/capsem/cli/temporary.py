"""A command in a machine of its own: made, used, removed, for the verbs that do that.

Refuses to take over what there is not, and leaves a machine whose work could not be taken over.

    code = await in_temporary_machine(machine_body(image="default"), Exec(argv=("true",)))
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from capsem.cli import terminal
from capsem.cli.asking import made
from capsem.cli.attach import attached
from capsem.cli.report import Course
from capsem.errors import CapsemError, UsageError
from capsem.host.lease import Lease
from capsem.host.service import call
from capsem.wire.monitor import Exec

_END_SECONDS = 60.0


async def in_temporary_machine(
    body: dict[str, Any],
    asked: Exec,
    *,
    apply: bool = False,
    sent: socket.socket | None = None,
    course: Course | None = None,
    as_json: bool = False,
) -> int:
    """Make a machine, run the command in it, remove the machine, whatever happens: it is leased, and ends with us.

    With `apply`, what changed in the workspace is taken over first; where that cannot be, the machine stays. `sent` is
    of `asked_ahead`, with this body.
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
    machine = course.machine = await made(body, lease, sent)
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
            await _ended(machine["id"], lease)
        await lease.close()


async def _ended(machine: str, lease: Lease) -> None:
    try:
        async with asyncio.timeout(_END_SECONDS):
            name = await lease.end()
        if name is not None:
            terminal.complain([f"{machine} was given the name {name}, and stays"])
    except TimeoutError:
        # The service ends a monitor that does not answer.
        await call("POST", f"/machines/{machine}/delete", {"force": True})
    except CapsemError as error:
        terminal.complain([f"{machine} was not removed: {error}"])
