"""The root of the command line. A verb's module is imported when the verb is asked for, never before.

main(["list", "--json"])
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from capsem.cli import terminal
from capsule.cli.lazy import GoneError, LazyGroup, let_go
from capsule.errors import CapsuleError

_COLLECT_AFTER = 50_000
"""Objects that are made before the collector looks for garbage; Python's own number is 2 000."""


@click.group(
    "capsem",
    cls=LazyGroup,
    verbs={
        "apply": ("capsem.cli.apply", "Take over what a machine changed in its workspace."),
        "answer": ("capsem.cli.answer", "Allow or deny what a machine waits for."),
        "asks": ("capsem.cli.asks", "Show what machines wait for an answer to."),
        "branch": ("capsem.cli.copies:branch", "Make machines that go on from where one is now."),
        "clean": ("capsem.cli.clean", "Remove what is old by the rules of the settings."),
        "completion": ("capsem.cli.completion", "Print a shell's completion script."),
        "config": ("capsem.cli.config", "See and change settings, and which file decides."),
        "cp": ("capsem.cli.cp", "Copy files and directories into a machine or out of it."),
        "create": ("capsem.cli.create", "Make a machine and start it."),
        "delete": ("capsem.cli.ends:delete", "Remove a machine and its disk; its record stays."),
        "diff": ("capsem.cli.diff", "Show what a machine changed in its workspace."),
        "disk": ("capsem.cli.disk", "Show what everything takes on the disk."),
        "doctor": ("capsem.cli.doctor", "Try what a machine needs, and name what is missing."),
        "exec": ("capsem.cli.exec", "Run a command in a machine."),
        "fork": ("capsem.cli.copies:fork", "Make an image of a machine."),
        "history": ("capsem.cli.history", "Show what happened to a machine."),
        "image": ("capsem.cli.image", "Build, list, inspect, verify and remove images."),
        "info": ("capsem.cli.info", "Show a machine."),
        "list": ("capsem.cli.list", "List machines."),
        "logs": ("capsem.cli.logs", "Show a machine's console."),
        "persist": ("capsem.cli.ends:persist", "Give a temporary machine a name, so that it stays."),
        "purge": ("capsem.cli.ends:purge", "Remove every machine that does not run."),
        "query": ("capsem.cli.query", "Ask what is recorded of a machine, in SQL."),
        "restart": ("capsem.cli.ends:restart", "Stop a machine and start it from its disk."),
        "resume": ("capsem.cli.ends:resume", "Go on with a machine that was suspended."),
        "run": ("capsem.cli.run", "Run a command in a machine of its own."),
        "shell": ("capsem.cli.shell", "Open a shell in a machine."),
        "snapshot": ("capsem.cli.snapshot", "Keep, compare and put back what a workspace had."),
        "start": ("capsem.cli.ends:start", "Start a machine that was stopped."),
        "stop": ("capsem.cli.ends:stop", "Stop a machine."),
        "suspend": ("capsem.cli.ends:suspend", "Keep a machine's memory on the disk, and end it."),
        "timeline": ("capsem.cli.timeline", "Tell a machine's story in order of time."),
        "verify": ("capsem.cli.verify", "Check a machine's log."),
        "version": ("capsem.cli.version", "Print the versions of capsem, capsule and QEMU."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: capsem run -- uname -a",
)
def root() -> None:
    """A whole Linux machine for an agent.

    Where --json was given, what goes wrong is told in JSON, too: a line on standard output, or a command's report.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit.

    Exit codes: a command's own where a verb runs one; else 0 done, 1 the answer is no, 2 the command line or the
    policy is wrong, 124 a command's time is over, 125 anything else of ours, 126 refused by a rule.
    """
    _open_streams()
    if arguments is None:
        # What a verb loads is never garbage, and looking through it takes longer than some verbs.
        gc.set_threshold(_COLLECT_AFTER)
    try:
        code = root.main(args=arguments, prog_name="capsem", standalone_mode=False)
    except CapsuleError as error:
        terminal.fault(error)
        _in_json(arguments, error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        terminal.usage(error)
        _in_json(arguments, error)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (BrokenPipeError, GoneError):
        # Nothing more can be said to it, at the interpreter's end either.
        let_go()
        sys.exit(141)
    except OSError as error:
        _unwritten(error, arguments)
        sys.exit(125)
    code = code if isinstance(code, int) else 0
    if arguments is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the program; to take the interpreter apart first would take longer than some verbs."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        os._exit(141)
    except OSError as error:
        _unwritten(error, None)
        code = 125
    os._exit(code)


def _open_streams() -> None:
    """Put nothing where a standard stream is closed: a socket of ours would get its number, and its bytes."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the least number that is free
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor


def _unwritten(error: OSError, arguments: Sequence[str] | None) -> None:
    """Say what the system refused; what of the answer could not be written is let go."""
    from capsem.host import shortage

    step = "see that there is room and that it can be written"
    if error.filename:
        step = shortage.step(error, otherwise=step)
    fault = CapsuleError(shortage.why(error), next_step=step)
    terminal.fault(fault)
    if error.filename:
        with contextlib.suppress(OSError):
            _in_json(arguments, fault)
    let_go()


def _in_json(arguments: Sequence[str] | None, error: CapsuleError | click.ClickException) -> None:
    """Tell it in JSON, too, where that was asked for."""
    # Loaded when something went wrong.
    from capsem.cli.unanswered import asked, of_click

    answer = asked(root, sys.argv[1:] if arguments is None else arguments)
    if answer is not None:
        answer(of_click(error) if isinstance(error, click.ClickException) else error)
