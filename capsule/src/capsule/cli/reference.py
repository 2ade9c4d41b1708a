"""The type of a FILE_OR_PRESET argument: any text; completion offers the presets and files.

@click.argument("policy", metavar="FILE_OR_PRESET", type=PolicyReference())
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from capsule.policy.presets import NAMES


class PolicyReference(click.ParamType[str]):
    """A preset's name or a file; which of them, and whether it is there, the loader says."""

    name = "policy"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Presets that begin like this, and files."""
        presets = [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]
        return [*presets, CompletionItem(incomplete, type="file")]
