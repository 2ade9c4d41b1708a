"""`capsule policy VERB`."""

from __future__ import annotations

import click

from capsule.cli.lazy import LazyGroup


@click.group(
    "policy",
    cls=LazyGroup,
    verbs={
        "check": ("capsule.cli.policy.check", "Say whether a policy can be used, and what is wrong with it."),
        "compile": ("capsule.cli.policy.compile", "Print the plan the launcher enforces."),
    },
    epilog="Example: capsule policy check capsule.yaml",
)
def command() -> None:
    """Check, compile, explain, test and compare policies."""
