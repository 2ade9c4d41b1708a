"""`capsule rules VERB`."""

from __future__ import annotations

import click

from capsule.cli.lazy import LazyGroup


@click.group(
    "rules",
    cls=LazyGroup,
    verbs={
        "lint": (
            "capsule.cli.rules.lint",
            "Remark on rules that never decide, conflict, or may miss a field.",
        ),
        "list": ("capsule.cli.rules.list", "Show rules and detections in the order in which they decide."),
        "test": ("capsule.cli.rules.test", "Check rules against their own tests."),
    },
    epilog="Example: capsule rules test rules.yaml",
)
def command() -> None:
    """List, check and test what decides during a run."""
