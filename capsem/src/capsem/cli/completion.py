"""`capsem completion SHELL`: the script a shell needs to complete verbs, options, machines and images.

capsem completion bash
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from capsem.cli import terminal


@click.command(
    "completion",
    epilog="Example: capsem completion bash > ~/.local/share/bash-completion/completions/capsem",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(*, shell: str) -> None:
    """Print a shell's completion script. It completes machines only while the service runs, and never starts it."""
    from capsem.cli.main import root

    found = get_completion_class(shell)
    assert found is not None  # the three choices are click's own
    terminal.say_lines(found(root, {}, "capsem", "_CAPSEM_COMPLETE").source())
