"""The FILE_OR_PRESET argument: any text; completion offers the presets and files. Left out, it is the policy in force.

@policy_argument
def command(policy: str) -> int: ...
"""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from capsule.cli.files import policy_in_force
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
        """Presets and policy files here that begin like this; any file where there are none.

        Not both at once: click's script for bash drops what it has when the shell is to complete a file.
        """
        here = sorted(path.name for path in Path().glob("*.y*ml") if path.suffix in {".yaml", ".yml"})
        known = [CompletionItem(name) for name in (*NAMES, *here) if name.startswith(incomplete)]
        return known or [CompletionItem(incomplete, type="file")]


def _in_force(ctx: click.Context, param: click.Parameter, value: str | None) -> str:  # noqa: ARG001
    return value if value is not None else policy_in_force(None, Path.cwd())


policy_argument = click.argument(
    "policy", metavar="[FILE_OR_PRESET]", required=False, type=PolicyReference(), callback=_in_force
)
"""The policy a verb is about: the one named, else the one that a run started here would have."""
