"""Errors as JSON, where an answer in JSON was asked for: a line on standard output, or a report where a verb has one.

Refuses to take a `--json` that is a word of a command to be run in a machine for its own.

    answer = asked(root, ["list", "--json"])         # None: as text
    answer(error)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import click

from capsem.cli import terminal
from capsem.errors import UsageError
from capsule.errors import CapsuleError

_RUN_COMMANDS = {"exec", "run"}


def asked(root: click.Group, words: Sequence[str]) -> Callable[[CapsuleError], None] | None:
    """What tells an error in JSON; None when it is not wanted."""
    verb = next((word for word in words if not word.startswith("-")), "")
    ours = list(itertools.takewhile(lambda word: word != "--", words))
    if verb not in _RUN_COMMANDS:
        return terminal.unanswered if "--json" in ours else None
    if "--json" not in _own(root, verb, ours):
        return None
    from capsem.cli.report import unbegun

    return unbegun


def _own(root: click.Group, verb: str, words: Sequence[str]) -> list[str]:
    """The words of a verb that runs a command, up to the first that belongs to the command."""
    command = root.get_command(click.Context(root), verb)
    valued = {
        word
        for one in (command.params if command is not None else ())
        if isinstance(one, click.Option) and not one.is_flag
        for word in one.opts
    }
    # `exec` has a machine before it.
    left, own = 1 if verb == "exec" else 0, []
    rest = iter(words[words.index(verb) + 1 :])
    for word in rest:
        if not word.startswith("-"):
            if not left:
                break
            left -= 1
        own.append(word)
        if word in valued:
            next(rest, None)
    return own


def of_click(error: click.ClickException) -> UsageError:
    """What click says of a command line, as an error of ours."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    place = context.command_path if context is not None else "capsem"
    return UsageError(error.format_message(), next_step=f"see {place} --help")
