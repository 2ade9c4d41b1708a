"""`capsem snapshot`: what a machine's workspace had at a moment, kept, compared and put back.

capsem snapshot create work before && capsem snapshot revert work before
"""

from __future__ import annotations

import click

from capsule.cli.lazy import LazyGroup


@click.group(
    "snapshot",
    cls=LazyGroup,
    verbs={
        "create": ("capsem.cli.snapshot.create", "Keep what a machine's workspace has now."),
        "diff": ("capsem.cli.snapshot.diff", "Show what changed between two snapshots, or since one."),
        "list": ("capsem.cli.snapshot.list", "List a machine's snapshots."),
        "revert": ("capsem.cli.snapshot.revert", "Put a machine's workspace back."),
        "rm": ("capsem.cli.snapshot.rm", "Remove a snapshot."),
    },
    epilog="Example: capsem snapshot create work before",
)
def command() -> None:
    """Keep, compare and put back what a machine's workspace had. `base` is what was copied into it."""
