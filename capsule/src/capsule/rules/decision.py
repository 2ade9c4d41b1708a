"""What the rules say about one event: a value, with the rule behind it, what was missing, and what is changed.

It refuses nothing: a verdict is a value. `undecided` means that no rule decided, not that something is allowed.

    decision.action                   # 'block'
    decision.record()                 # {'action': 'block', 'by': 'rule', 'rule': {'id': 'no-gists', …}, …}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from capsule.rules.rewrite import Edit

Verdict = Literal["allow", "ask", "block", "undecided"]


@dataclass(frozen=True, slots=True)
class RuleRef:
    """Which rule, and where it stands."""

    id: str
    file: str
    line: int
    owner: str
    priority: int

    def record(self) -> dict[str, Any]:
        """As the log has it."""
        return {
            "id": self.id,
            "file": self.file,
            "line": self.line,
            "owner": self.owner,
            "priority": self.priority,
        }

    def __str__(self) -> str:
        return f"{self.id} ({self.file}:{self.line})"


@dataclass(frozen=True, slots=True)
class Noted:
    """A rule with a level held: a finding."""

    rule: RuleRef
    level: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say.

    Attributes:
        action: allow, ask, block, or undecided when no rule decided: then the policy's own entries do.
        rule: the rule that decided; of edits that no decision goes with, the first rule that edits.
        reason: one sentence, for people.
        missing: fields that the rule asked for and the event does not have.
        failed: why the rule's condition could not be evaluated.
        conflict: two rules of one priority that hold and disagree; the action is block.
        edits: what is changed when it goes on, in order.
        ask_timeout_ms: of the rule that asks.
        pending: the body decides: ask again at the stage `body`. Until then the action is block.
        findings: the rules with a level that held, up to the one that decided.
    """

    action: Verdict
    rule: RuleRef | None = None
    reason: str = ""
    missing: tuple[str, ...] = ()
    failed: str | None = None
    conflict: tuple[RuleRef, RuleRef] | None = None
    edits: tuple[Edit, ...] = ()
    ask_timeout_ms: int | None = None
    pending: bool = False
    findings: tuple[Noted, ...] = ()

    def record(self) -> dict[str, Any]:
        """The object `decision` of events.md, for what the rules decided; absent fields are absent."""
        action = "rewrite" if self.action == "allow" and self.edits else self.action
        found: dict[str, Any] = {"action": action, "by": "rule"}
        if self.rule is not None:
            found["rule"] = self.rule.record()
        if self.reason:
            found["reason"] = self.reason
        if self.missing:
            found["missing"] = list(self.missing)
        return found


UNDECIDED = Decision("undecided")
