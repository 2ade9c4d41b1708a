"""What was decided about one event, and how it is said: on the log, and to the program that was refused.

Pure. A verdict is a value. Refuses nothing; its text names the cause, the place and what would allow it, for a person
and for a program that reads JSON.

    refused = Verdict("block", "grant", "no host entry lists evil.example", allow="add evil.example to network.hosts")
    answer(refused, url="https://evil.example/", json=False)
"""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Action = Literal["allow", "block", "rewrite"]
BLOCKED = "x-capsule-blocked"
"""The header that says that an answer is a refusal of ours, and by what."""
By = Literal["grant", "rule", "ask", "budget", "secret", "address", "name", "protocol", "default"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision of `events.md`.

    Attributes:
        action: what happens.
        by: what decided.
        reason: one clause, for a person.
        rule: `{id, file, line, owner, priority}` when a rule decided.
        missing: fields that a rule read and the event lacks.
        allow: what would allow it, when something would.
        rewrites: what the rules change, opaque here.
    """

    action: Action
    by: By
    reason: str
    rule: Mapping[str, Any] | None = None
    missing: tuple[str, ...] = ()
    allow: str = ""
    rewrites: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def allowed(self) -> bool:
        """Whether it goes on."""
        return self.action != "block"

    def entry(self) -> dict[str, Any]:
        """As it stands on the log."""
        found: dict[str, Any] = {"action": self.action, "by": self.by}
        if self.rule is not None:
            found["rule"] = dict(self.rule)
        if self.reason:
            found["reason"] = self.reason
        if self.missing:
            found["missing"] = list(self.missing)
        if self.allow and self.action == "block":
            found["allow"] = self.allow
        return found


def place(rule: Mapping[str, Any] | None) -> str:
    """`file:line` of a rule or a host entry, when it is known."""
    if rule is None or not rule.get("file"):
        return ""
    line = rule.get("line")
    return f"{rule['file']}:{line}" if line else str(rule["file"])


def answer(verdict: Verdict, *, method: str, url: str, json: bool) -> tuple[bytes, str]:
    """The body of a refusal and its media type."""
    where = place(verdict.rule)
    rule = verdict.rule.get("id") if verdict.rule is not None else None
    if json:
        content: dict[str, Any] = {
            "error": "blocked by capsule",
            "request": f"{method} {url}",
            "by": verdict.by,
            "reason": verdict.reason,
        }
        if rule:
            content["rule"] = rule
        if where:
            content["place"] = where
        if verdict.allow:
            content["allow"] = verdict.allow
        return json_format.dumps(content).encode() + b"\n", "application/json"
    lines = [f"capsule blocked {method} {url}", f"by {verdict.by}: {verdict.reason}"]
    if rule:
        lines.append(f"rule {rule}" + (f" ({where})" if where else ""))
    elif where:
        lines.append(f"at {where}")
    if verdict.allow:
        lines.append(f"to allow it: {verdict.allow}")
    return "\n".join(lines).encode("utf-8", "replace") + b"\n", "text/plain; charset=utf-8"
