"""`capsule completion SHELL`: the script a shell needs to complete verbs, options and presets."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from capsule.cli import terminal


@click.command(
    "completion",
    epilog="Example: capsule completion bash > ~/.local/share/bash-completion/completions/capsule",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a shell's completion script."""
    from capsule.cli.main import root

    found = get_completion_class(shell)
    assert found is not None  # the three choices are click's own
    terminal.say_lines(found(root, {}, "capsule", "_CAPSULE_COMPLETE").source())
