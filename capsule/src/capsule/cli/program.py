"""The words of a command that a verb is to run, as shell completion sees them: a program, then names of files.

Decides nothing about what runs: any text is taken as it is.

    click.Argument(["arguments"], nargs=-1, type=CommandWords())
"""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem


class CommandWords(click.ParamType[str]):
    """CMD and its arguments. Where a verb's first word is something else too, `--` says that a command begins."""

    name = "command"

    def __init__(self, *, only_after_dashes: bool = False) -> None:
        self._only_after_dashes = only_after_dashes

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Programs on PATH for the first word, unless it is a path; else whatever files the shell finds."""
        named = param.name is not None and ctx.params.get(param.name)
        dashes = "--" in os.environ.get("COMP_WORDS", "").split()
        if named or "/" in incomplete or (self._only_after_dashes and not dashes):
            return [CompletionItem(incomplete, type="file")]
        found = [CompletionItem(name) for name in programs(incomplete)]
        # Never both: click's script for bash drops what it has when the shell is to complete a file.
        return found or [CompletionItem(incomplete, type="file")]


def programs(beginning: str) -> list[str]:
    """Names of the programs on PATH that begin like this, sorted."""
    found: set[str] = set()
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        try:
            entries = [
                entry.name for entry in os.scandir(directory or ".") if entry.name.startswith(beginning)
            ]
        except OSError:
            continue
        found.update(name for name in entries if _runs(Path(directory or ".", name)))
    return sorted(found)


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
