"""Whether a command may be run and a file copied: the rules of the machine, asked before the act.

A machine without rules refuses nothing. With rules, what none of them allows is refused, and `ask` is refused too: a
person cannot be asked from here. Refuses rules that do not compile: then the machine does not start.

    rules = Rules.of(spec.rules)
    rules.process(["git", "push"]).allowed
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from capsem.vm.spec import RuleText
from capsem.vm.wording import rule_for

if TYPE_CHECKING:
    from capsule.rules.engine import RuleSet


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided of one act.

    Attributes:
        allowed: whether it may happen.
        event: as the rules saw it.
        decision: as it is recorded.
        reason: why not.
        step: what would let it be.
    """

    allowed: bool
    event: dict[str, Any]
    decision: dict[str, Any]
    reason: str = ""
    step: str = "see the machine's rules, and its log with capsule log"

    @property
    def entry(self) -> dict[str, Any]:
        """What goes on the log."""
        return {**self.event, "decision": self.decision}


class Rules:
    """The rules of one machine.

    Args:
        rules: compiled; None: there are none.
        now: this moment, RFC 3339.
        file: where another rule would stand.
    """

    def __init__(self, rules: RuleSet | None, now: Callable[[], str], file: str = "") -> None:
        self._rules = rules
        self._file = file
        self._now = now
        self._count = itertools.count(1)

    @classmethod
    def of(cls, texts: Sequence[RuleText], now: Callable[[], str]) -> Rules:
        """The rules in some files.

        Raises:
            RuleError: they are not of the documented form, or do not compile.
        """
        if not texts:
            return cls(None, now)
        # The expression engine is large; a machine without rules does not load it.
        from capsule.rules.engine import compile_rules
        from capsule.rules.rule import parse_rules

        return cls(compile_rules([parse_rules(one.text, one.file) for one in texts]), now, texts[-1].file)

    def process(self, argv: Sequence[str]) -> Verdict:
        """May this command be run?"""
        path = argv[0]
        subject = {
            "path": path, "name": PurePosixPath(path).name, "argv": list(argv), "command": " ".join(argv),
        }  # fmt: skip
        return self._decided("process", subject)

    def file(self, operation: str, path: str, *, source: str | None = None) -> Verdict:
        """May this be done to a file? `operation`: read, write, create, remove, or rename with the name before."""
        name = PurePosixPath(path).name
        subject = {
            "operation": operation, "path": path, "name": name, "ext": PurePosixPath(name).suffix.removeprefix("."),
        }  # fmt: skip
        if source is not None:
            subject["from"] = source
        return self._decided("file", subject)

    def rename(self, before: str, after: str) -> list[Verdict]:
        """May a file have another name? Where there are rules it must be free to read and to remove, the new to write.

        Else what they keep under one name could be had, or put there, under another.
        """
        renamed = self.file("rename", after, source=before)
        if self._rules is None:
            return [renamed]
        return [*(self.file(what, before) for what in ("read", "remove")), self.file("write", after), renamed]

    def _decided(self, kind: str, subject: dict[str, Any]) -> Verdict:
        event = {
            "event": {"id": f"host-{next(self._count)}", "type": kind, "time": self._now()},
            kind: subject,
        }
        if self._rules is None:
            return Verdict(True, event, {"action": "allow", "by": "default"})
        decided = self._rules.decide(event)
        if decided.action == "allow" and decided.rule is not None:
            return Verdict(True, event, decided.record())
        if decided.rule is None:
            reason = decided.reason or "no rule allows it"
            refused = Verdict(False, event, {"action": "block", "by": "default", "reason": reason}, reason)
            return refused if decided.reason else replace(refused, step=self._step(kind, subject))
        record = {**decided.record(), "action": "block"}
        return Verdict(
            False, event, record, decided.reason or f"the rule {decided.rule.id} says {decided.action}"
        )

    def _step(self, kind: str, subject: dict[str, Any]) -> str:
        return (
            f"with rules, what none of them allows is refused; to allow just this, add it to {self._file} under rules: "
            f"and make the machine again: {rule_for(kind, subject)}"
        )
