"""The tests that rules bring along: does each condition hold for its `match` events and not for its `miss` events?

A rule is asked alone, whatever others would decide. It refuses to call a missing field a result: an event of a test has
to hold what the rule reads.

    [result for result in check_examples(rules) if not result.passed]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from capsule.rules.decision import RuleRef
from capsule.rules.engine import Compiled
from capsule.rules.environment import activation, sections_of
from capsule.rules.expression import Missing
from capsule.rules.rule import Example


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """One event of one rule's tests.

    Attributes:
        why: what came out instead; empty when it passed.
    """

    rule: RuleRef
    example: Example
    passed: bool
    why: str = ""

    def __str__(self) -> str:
        kind = "match" if self.example.holds else "miss"
        place = f"{self.rule.file}:{self.example.line}:{self.example.column}"
        return f"{place}: rule {self.rule.id}: {kind}: {self.why or 'passed'}"


def check_examples(rules: Iterable[Compiled]) -> list[ExampleResult]:
    """Every event of every rule's tests, in the order of the rules."""
    return [_checked(one, example) for one in rules for example in one.rule.examples]


def _checked(one: Compiled, example: Example) -> ExampleResult:
    try:
        shown = activation(example.event, sections_of(one.rule.on))
    except (RuntimeError, ValueError, TypeError) as error:
        return ExampleResult(one.ref, example, False, f"the event cannot be shown to the rule: {error}")
    outcome = one.condition.ask(shown, example.event)
    if isinstance(outcome, bool):
        said = "holds" if outcome else "does not hold"
        return ExampleResult(
            one.ref, example, outcome is example.holds, "" if outcome is example.holds else f"the rule {said}"
        )
    if isinstance(outcome, Missing):
        return ExampleResult(
            one.ref, example, False, f"the rule reads {', '.join(outcome.names)}; add it to the event"
        )
    return ExampleResult(one.ref, example, False, f"the condition fails: {outcome.why}")
