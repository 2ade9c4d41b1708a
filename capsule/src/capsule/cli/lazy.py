"""A click group whose verbs are imported one at a time, so that a verb pays for itself only.

Each verb's module has a click command named `command`; `module:name` names another one.

    @click.group(cls=LazyGroup, verbs={"check": ("capsule.cli.policy.check", "Check a policy.")})
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click


class GoneError(Exception):
    """Whoever read our output has gone."""


def let_go() -> None:
    """What is written to standard output from now on goes nowhere, at the interpreter's end either."""
    out = sys.__stdout__
    if out is not None and out is sys.stdout:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _told_of_who_has_gone() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise GoneError from None


class LazyGroup(click.Group):
    """`verbs` maps a verb to its module and its one-line help."""

    # Of a pipe that broke click would make the exit code 1, which is an answer here.

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line, which may print the help."""
        with _told_of_who_has_gone():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        with _told_of_who_has_gone():
            return super().invoke(ctx)

    def __init__(self, *args: Any, verbs: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All verbs, without importing any."""
        return sorted(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the verb asked for."""
        if cmd_name not in self._verbs:
            return None
        module, _, attribute = self._verbs[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute or "command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of verbs from what this group knows, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._verbs[name][1]) for name in sorted(self._verbs)])
