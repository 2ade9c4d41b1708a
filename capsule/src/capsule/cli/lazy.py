"""A click group whose verbs are imported one at a time, so that a verb pays for itself only.

Each verb's module has a click command named `command`; `module:name` names another one.

    @click.group(cls=LazyGroup, verbs={"check": ("capsule.cli.policy.check", "Check a policy.")})
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """`verbs` maps a verb to its module and its one-line help."""

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
