"""The root of the command line. A verb's module is imported when the verb is asked for, never before.

main(["policy", "check", "capsule.yaml"])
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.lazy import GoneError, LazyGroup, let_go
from capsule.errors import CapsuleError
from capsule.policy.paths import shown


@click.group(
    "capsule",
    cls=LazyGroup,
    verbs={
        "answer": ("capsule.cli.answer", "Allow or deny what a run waits for."),
        "apply": ("capsule.cli.overlay.apply", "Take over what a run with an overlay wrote."),
        "asks": ("capsule.cli.asks", "Show what runs wait for an answer to."),
        "attack": ("capsule.cli.attack", "Attack a policy on this machine, and judge from the host."),
        "completion": ("capsule.cli.completion", "Print a shell's completion script."),
        "diff": ("capsule.cli.overlay.diff", "Show what a run with an overlay wrote."),
        "discard": ("capsule.cli.overlay.discard", "Throw away what a run with an overlay wrote."),
        "doctor": ("capsule.cli.doctor", "Say what this host can enforce, and how to get more."),
        "hunt": ("capsule.cli.hunt", "Look through past sessions for what detection rules describe."),
        "learn": ("capsule.cli.learn", "Propose the smallest policy that past sessions would have needed."),
        "log": ("capsule.cli.native:log", "Show the entries of a log."),
        "policy": ("capsule.cli.policy", "Check, compile, explain, test and compare policies."),
        "profile": ("capsule.cli.profile", "Watch commands and suggest the smallest policy that lets them."),
        "prove": ("capsule.cli.native:prove", "Prove that an entry is in a log."),
        "record": ("capsule.cli.native:record", "Put entries of another program on a log."),
        "replay": ("capsule.cli.replay", "Say what another policy would have decided of past sessions."),
        "rules": ("capsule.cli.rules", "List, check and test what decides during a run."),
        "run": ("capsule.cli.native:run", "Run one command under a policy."),
        "sessions": ("capsule.cli.sessions", "Look at past runs: list, show, timeline, query, export."),
        "trace": ("capsule.cli.native:trace", "Observe what one command uses."),
        "verify": ("capsule.cli.native:verify", "Check a log."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: capsule policy check capsule.yaml",
)
def root() -> None:
    """The verbs written in Python, and the names of the native ones."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit.

    Exit codes: 0 done; 1 a verb's answer is no; 2 the policy or the command line is wrong; 125 anything
    else of ours.
    """
    words = sys.argv[1:] if arguments is None else arguments
    in_json = "--json" in itertools.takewhile(lambda word: word != "--", words)
    try:
        code = root.main(args=arguments, prog_name="capsule", standalone_mode=False)
        sys.stdout.flush()
    except CapsuleError as error:
        terminal.fault(error)
        if in_json:
            terminal.unanswered(error.message, error.next_step, error.exit_code)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        terminal.usage(error)
        if in_json:
            terminal.unanswered(error.format_message(), _help_of(error), 2)
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except (BrokenPipeError, GoneError):
        let_go()
        sys.exit(141)
    except OSError as error:
        fault = _refused(error)
        let_go()
        with contextlib.suppress(OSError):
            terminal.fault(fault)
        sys.exit(fault.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _refused(error: OSError) -> CapsuleError:
    """What the system refused, in words: of what has no name, the directory we are in and what was to be written."""
    room = "see that there is room and that it can be written"
    if error.filename is not None:
        return CapsuleError(f"{shown(os.fsdecode(error.filename))}: {error.strerror}", next_step=room)
    try:
        Path.cwd()
    except OSError:
        return CapsuleError(
            f"the directory that this was started in cannot be used: {error.strerror}",
            next_step="cd to one that is there",
        )
    return CapsuleError(
        f"not all could be written: {error.strerror}", next_step=f"{room}, standard output too"
    )


def _help_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"see {context.command_path if context is not None else 'capsule'} --help"
