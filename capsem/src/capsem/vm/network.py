"""What a machine may reach: the network's part of a policy, compiled, with the files it names. Values only.

Refuses nothing; a machine without one reaches nothing, and what it tries is recorded.

    spec = NetworkSpec(policy="./network.yaml", digest="blake3:…", egress='{"unlisted": "deny", …}')
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NOTHING: dict[str, Any] = {
    "unlisted": "deny", "hosts": [], "upstreams": [], "authorities": [], "proxy": None, "secrets": [], "rules": [],
    "detect": [], "budget": {"requests": None, "bytes": None, "tokens": None, "microdollars": None},
}  # fmt: skip
"""The plan of a machine without a policy."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file as it was when the machine was made: its path, for errors and records, and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """The network's part of a policy.

    Attributes:
        policy: its file, or the preset's name.
        digest: of the compiled plan.
        egress: `network.egress` of the plan (docs/formats/egress.md), JSON.
        sources: rules, detection and authorities that the plan names.
    """

    policy: str
    digest: str
    egress: str
    sources: tuple[TextFile, ...] = ()

    @property
    def plan(self) -> dict[str, Any]:
        """The plan's part, as it was compiled."""
        found: dict[str, Any] = json.loads(self.egress)
        return found

    @property
    def reaches(self) -> bool:
        """Whether anything could be reached."""
        plan = self.plan
        return bool(plan["hosts"]) or plan["unlisted"] == "ask"


def session(
    machine: str, spec: NetworkSpec | None, rules: Sequence[TextFile], secrets: dict[str, Any]
) -> dict[str, Any]:
    """The session that a proxy begins with: of the policy, and the machine's own rules beside the policy's.

    Args:
        machine: its id.
        spec: None: nothing is reached.
        rules: the machine's files of rules.
        secrets: `{name: {value, placeholder, expires}}`.
    """
    plan = dict(NOTHING) if spec is None else spec.plan
    sources = [*(spec.sources if spec is not None else ()), *rules]
    plan["rules"] = [*plan["rules"], *({"path": rule.path, "origin": None} for rule in rules)]
    return {
        "type": "session", "version": 1, "run": f"r-{machine}", "command": ["machine", machine], "cwd": "/",
        "policy": None if spec is None else {"name": spec.policy, "digest": spec.digest}, "egress": plan,
        "sources": [{"path": one.path, "text": one.text} for one in sources], "secrets": secrets, "ports": [],
        "interactive": True,
    }  # fmt: skip
