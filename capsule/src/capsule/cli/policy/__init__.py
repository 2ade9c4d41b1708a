"""`capsule policy VERB`."""

from __future__ import annotations

import click

from capsule.cli.lazy import LazyGroup


@click.group(
    "policy",
    cls=LazyGroup,
    verbs={
        "accept": (
            "capsule.cli.policy.accept",
            "Let a policy found here grant more than the preset workspace.",
        ),
        "check": ("capsule.cli.policy.check", "Say whether a policy can be used, and what is wrong with it."),
        "diff": ("capsule.cli.policy.diff", "Say what a change of policy gives away, by risk."),
        "explain": ("capsule.cli.policy.explain", "Say what is allowed, and by which line."),
        "schema": ("capsule.cli.policy.schema", "Print the JSON Schema for editors."),
        "test": ("capsule.cli.policy.test", "Check the policy against its own examples."),
        "compile": ("capsule.cli.policy.compile", "Print the plan the launcher enforces."),
    },
    epilog="Example: capsule policy check capsule.yaml",
)
def command() -> None:
    """Check, compile, explain, test and compare policies."""
