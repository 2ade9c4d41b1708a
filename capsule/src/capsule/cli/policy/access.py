"""What `explain` and `test` share: a policy, its plan, and the directories its variables stand for here.

policy, access = load_access("capsule.yaml", None)
"""

from __future__ import annotations

from pathlib import Path

from capsule.cli.files import load_policy
from capsule.policy.model import Policy
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy


def variables_of(policy: Policy) -> Variables:
    """The policy's directory (for a preset the working directory), the user's home, the working directory."""
    here = str(Path.cwd().resolve())
    top = policy.sources[0].path
    workspace = here if top.startswith("preset:") else str(Path(top).parent)
    return Variables(workspace, str(Path.home().resolve()), here)


def load_access(reference: str, tool: str | None) -> tuple[Policy, Access]:
    """A policy and its decisions.

    Raises:
        PolicyError: with every place that is wrong.
    """
    policy = load_policy(reference, tool)
    return policy, Access(compile_policy(policy), variables_of(policy), policy.sections.environment)
