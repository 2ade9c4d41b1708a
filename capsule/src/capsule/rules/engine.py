"""Rules compiled and asked: `RuleSet.decide` answers for one event, at one stage, in the order of the format.

What it refuses: a file that does not compile (then `broken` denies everything and says why), an id that two files use.
A condition that is missing a field or fails holds for `block` and `ask` rules and not for `allow` and `rewrite`.

    rules = compile_rules([parse_rules(text, "rules.yaml")])
    rules.decide({"event": {"type": "http"}, "http": {"host": "api.github.com", …}}, "request").action
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from capsule.errors import Problem
from capsule.rules import event as table
from capsule.rules.decision import UNDECIDED, Decision, Noted, RuleRef, Verdict
from capsule.rules.environment import activation, sections_of
from capsule.rules.expression import (
    Condition,
    ConditionError,
    Failed,
    Missing,
    Outcome,
    compile_any,
    compile_condition,
    present,
)
from capsule.rules.index import Index, bits, comparisons_of
from capsule.rules.placing import place, quoted_line
from capsule.rules.rewrite import Edit
from capsule.rules.rule import Rule, RuleError, RuleFile

Stage = Literal["request", "body", "response"]
STAGES: Final = ("request", "body", "response")
BODY: Final = "http.body"
# Conditions without a constant to look up are first asked together, so many at a time.
TOGETHER: Final = 24
_SOFTER: Final[tuple[Verdict, ...]] = ("ask", "allow")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule with its condition. `body`: what of the request's body it reads: nothing, with care, or at once."""

    rule: Rule
    condition: Condition
    ref: RuleRef
    body: Literal["no", "guarded", "yes"]


def compile_rules(files: Iterable[RuleFile]) -> RuleSet:
    """The rules of all files, as one set.

    Raises:
        RuleError: with every condition that does not compile (a caret below its place) and ids used twice.
        RulesUnavailableError: cel-expr-python is not installed.
    """
    compiled: list[Compiled] = []
    problems: list[Problem] = []
    seen: dict[str, Rule] = {}
    for file in files:
        for rule in file.rules:
            other = seen.setdefault(rule.id, rule)
            if other is not rule:
                what = f"the id {rule.id!r} is taken"
                problems.append(
                    Problem(file.file, rule.line, 1, what, next_step=f"{other.file}:{other.line} has it")
                )
            try:
                compiled.append(_compiled(rule))
            except ConditionError as error:
                problems += [_problem(file, rule, *fault) for fault in error.faults]
    if problems:
        raise RuleError(problems)
    return RuleSet(compiled)


def _compiled(rule: Rule) -> Compiled:
    condition = compile_condition(rule.when.text, rule.on)
    reads = [read for read in condition.reads if read.field == BODY or read.field.startswith(BODY + ".")]
    body: Literal["no", "guarded", "yes"] = "no"
    if reads:
        body = "guarded" if any(read.guarded for read in reads) else "yes"
    return Compiled(rule, condition, RuleRef(rule.id, rule.file, rule.line, rule.owner, rule.priority), body)


def _problem(file: RuleFile, rule: Rule, offset: int, what: str, next_step: str) -> Problem:
    line, column = place(file.text, rule.when, offset)
    shown = "\n".join("  | " + text for text in quoted_line(file.text, line, column).split("\n"))
    return Problem(
        file.file,
        line,
        column,
        f"rule {rule.id}: {what}",
        next_step=f"{next_step or 'correct it here'}\n{shown}",
    )


class RuleSet:
    """Compiled rules. Immutable; safe to use from several threads.

    Attributes:
        rules: in the order in which they decide.
        problem: why the set denies everything, or None.
    """

    def __init__(self, compiled: Sequence[Compiled], problem: str | None = None) -> None:
        self.problem = problem
        self.rules = tuple(sorted(compiled, key=lambda one: one.rule.priority))
        self._groups = {
            on: _Group([one for one in self.rules if on in one.rule.on])
            for on in table.TYPES
            if any(on in one.rule.on for one in self.rules)
        }
        self._refused = Decision("block", reason=problem or "")

    def __len__(self) -> int:
        return len(self.rules)

    def decide(self, event: Mapping[str, Any], stage: Stage = "request") -> Decision:
        """What the rules say about the event.

        Args:
            event: as events.md has it; `event.type` says which rules are asked.
            stage: of an `http` event: at its headers, with its whole body, or at the answer's headers (then the rules
                on `http_response` are asked). Other events are asked once, at `request`.

        Raises:
            ValueError: the event has no type, or the stage is unknown: a fault of the caller.
        """
        if self.problem is not None:
            return self._refused
        group = self._groups.get(_on(event, stage))
        return UNDECIDED if group is None else group.decide(event, stage)

    def surely_blocks(self, event: Mapping[str, Any]) -> Decision | None:
        """The decision to block that stands whatever else is known of the event later.

        Args:
            event: with the fields that are known; no other field of it is taken for one that will be missing.

        Returns:
            None where something might still let it on: a rule that could allow or ask before, or no rule that holds.

        Raises:
            ValueError: the event has no type: a fault of the caller.
        """
        if self.problem is not None:
            return self._refused
        group = self._groups.get(_on(event, "request"))
        return None if group is None else group.surely_blocks(event)

    def reads(self, path: str) -> bool:
        """Whether some rule reads the field, something inside it, or an object that holds it."""
        return any(
            read.path == path or read.path.startswith(path + ".") or path.startswith(read.path + ".")
            for one in self.rules
            for read in one.condition.reads
        )

    def asks_about(self, on: str) -> bool:
        """Whether some rule is on this event type."""
        return self.problem is not None or on in self._groups

    def may_hold(self, on: str, event: Mapping[str, Any]) -> bool:
        """Whether some rule on this type might hold for an event of which only these fields are known yet."""
        group = self._groups.get(on)
        return self.problem is not None or (group is not None and group.index.candidates(event) != 0)

    def may_edit(self, on: str, event: Mapping[str, Any]) -> tuple[Edit, ...]:
        """The edits that rules on this type might ask for, given what is known yet."""
        group = self._groups.get(on)
        if group is None:
            return ()
        return tuple(
            edit for number in bits(group.index.candidates(event)) for edit in group.rules[number].rule.edits
        )


def broken(problem: str) -> RuleSet:
    """A set that denies everything, and says why in each decision."""
    return RuleSet((), problem=f"the rules are broken, so everything is denied: {problem}")


def _on(event: Mapping[str, Any], stage: str) -> str:
    try:
        name = event["event"]["type"]
    except (KeyError, TypeError):
        raise ValueError("an event without event.type") from None
    if stage not in STAGES:
        raise ValueError(f"no stage {stage!r}")
    return "http_response" if name == "http" and stage == "response" else str(name)


class _Group:
    """The rules of one event type, in the order in which they decide."""

    def __init__(self, rules: Sequence[Compiled]) -> None:
        self.rules = tuple(rules)
        self.sections = sections_of(name for one in rules for name in one.rule.on)
        self.index = Index([comparisons_of(one.condition.tree) for one in rules])
        loose = [
            number
            for number, one in enumerate(rules)
            if one.body == "no" and not self.index.tested >> number & 1
        ]
        self.together: list[tuple[int, Any]] = []
        for start in range(0, len(loose), TOGETHER):
            chunk = loose[start : start + TOGETHER]
            if len(chunk) > 2:
                program = compile_any(rules[number].condition.source for number in chunk)
                self.together.append((sum(1 << number for number in chunk), program))

    def decide(self, event: Mapping[str, Any], stage: str) -> Decision:
        mask = self.index.candidates(event)
        if not mask:
            return UNDECIDED
        try:
            shown = activation(event, self.sections)
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            why = f"the event cannot be shown to the rules: {' '.join(str(error).split())[:120]}"
            return Decision("block", reason=why, failed=why)
        for together, program in self.together:
            if mask & together and _surely_false(program, shown):
                mask &= ~together
        if not mask:
            return UNDECIDED
        return _Round(self.rules, event, shown, stage).run(mask)

    def surely_blocks(self, event: Mapping[str, Any]) -> Decision | None:
        try:
            shown = activation(event, self.sections)
        except (RuntimeError, ValueError, TypeError, OverflowError):
            return None
        softened: int | None = None
        for number in bits(self.index.candidates(event)):
            one = self.rules[number]
            if softened is not None and one.rule.priority != softened:
                return None
            outcome = one.condition.ask(shown, event)
            # `has` of a field that is not known yet is false now, and may be true then.
            known = all(present(event, read.path) for read in one.condition.reads if read.guarded)
            if one.rule.action == "block" and outcome is True and known:
                return Decision("block", one.ref, one.rule.reason)
            if one.rule.action in _SOFTER and not (outcome is False and known):
                softened = one.rule.priority
        return None


def _surely_false(program: Any, shown: Any) -> bool:
    try:
        return program.eval(shown).value() is False
    except (RuntimeError, ValueError, TypeError, OverflowError):
        return False


class _Round:
    """One event before the rules that may hold."""

    def __init__(self, rules: Sequence[Compiled], event: Mapping[str, Any], shown: Any, stage: str) -> None:
        self.rules, self.event, self.shown, self.stage = rules, event, shown, stage
        self.edits: list[Edit] = []
        self.editing: list[RuleRef] = []
        self.findings: list[Noted] = []

    def run(self, mask: int) -> Decision:
        """Priority by priority, until one decides."""
        same: list[tuple[Compiled, Outcome]] = []
        priority: int | None = None
        pending = False
        for number in bits(mask):
            one = self.rules[number]
            if one.rule.priority != priority:
                decided = self.close(same, pending)
                if decided is not None:
                    return decided
                same, pending, priority = [], False, one.rule.priority
            outcome = one.condition.ask(self.shown, self.event)
            if self.stage == "request" and one.body != "no" and self.waits(one, outcome):
                pending = True
            elif outcome is not False:
                same.append((one, outcome))
        decided = self.close(same, pending)
        if decided is not None:
            return decided
        if not self.edits and not self.findings:
            return UNDECIDED
        first, *others = self.editing or (None,)
        also = f"it is also edited by {', '.join(map(str, others))}" if others else ""
        return replace(
            UNDECIDED, rule=first, reason=also, edits=tuple(self.edits), findings=tuple(self.findings)
        )

    def waits(self, one: Compiled, outcome: Outcome) -> bool:
        """Whether the body, which is not here yet, can still change this outcome."""
        if one.body == "guarded":
            return True
        return isinstance(outcome, Missing | Failed)

    def close(self, same: Sequence[tuple[Compiled, Outcome]], pending: bool) -> Decision | None:
        """What the rules of one priority say together."""
        deciding: dict[str, tuple[Compiled, Outcome]] = {}
        for one, outcome in same:
            action = one.rule.action
            if outcome is not True and action in {"allow", "rewrite"}:
                continue
            if one.rule.level is not None and outcome is True:
                self.findings.append(Noted(one.ref, one.rule.level, one.rule.reason))
            if action == "rewrite":
                self.edits += one.rule.edits
                self.editing.append(one.ref)
            else:
                deciding.setdefault(action, (one, outcome))
        refusing = deciding.get("block") or deciding.get("ask")
        if "allow" in deciding and refusing is not None:
            return self.disagreement(deciding["allow"][0], refusing[0])
        if "block" in deciding:
            return self.decision("block", *deciding["block"])
        if pending:
            return Decision("block", reason="the body is not here yet, and a rule reads it", pending=True)
        for softer in _SOFTER:
            if softer in deciding:
                return self.decision(softer, *deciding[softer])
        return None

    def disagreement(self, allowing: Compiled, refusing: Compiled) -> Decision:
        reason = (
            f"{allowing.ref} says allow and {refusing.ref} says {refusing.rule.action}, both at priority "
            f"{refusing.rule.priority}; give one of them another"
        )
        return Decision(
            "block",
            refusing.ref,
            reason,
            conflict=(allowing.ref, refusing.ref),
            findings=tuple(self.findings),
        )

    def decision(self, action: Verdict, one: Compiled, outcome: Outcome) -> Decision:
        reason = one.rule.reason
        missing = outcome.names if isinstance(outcome, Missing) else ()
        failed = outcome.why if isinstance(outcome, Failed) else None
        if missing:
            reason = f"{reason or one.rule.id} (not known: {', '.join(missing)})"
        elif failed:
            reason = f"{reason or one.rule.id} (its condition fails: {failed})"
        return Decision(
            action,
            one.ref,
            reason,
            missing,
            failed,
            edits=tuple(self.edits) if action != "block" else (),
            ask_timeout_ms=one.rule.ask_timeout_ms,
            findings=tuple(self.findings),
        )
