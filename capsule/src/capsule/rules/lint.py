"""What is probably not meant in rules that compile: rules that never decide, conflicts, fields that may be missing.

Only what can be shown is said: two conditions that are equal, or one that is another and more, or an event of a rule's
own tests that two rules answer differently. It refuses nothing; these are remarks.

    for remark in lint(rules.rules): print(remark)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from capsule.rules import event as table
from capsule.rules.decision import RuleRef
from capsule.rules.engine import Compiled
from capsule.rules.environment import activation, sections_of
from capsule.rules.expression import conjuncts
from capsule.rules.syntax import Call, Collection, Comprehension, Const, Expr, Ident, Select

DECIDING = ("allow", "ask", "block")


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that is probably not meant."""

    rule: RuleRef
    what: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.rule.file}:{self.rule.line}: rule {self.rule.id}: {self.what}; {self.next_step}"


def lint(rules: Sequence[Compiled]) -> list[Remark]:
    """The remarks, in the order in which the rules decide."""
    parts = {
        one.ref.id: frozenset(shape(part) for part in conjuncts(one.condition.tree.expr)) for one in rules
    }
    found: list[Remark] = []
    for number, one in enumerate(rules):
        found += _missing(one)
        for earlier in rules[:number]:
            if not set(one.rule.on) & set(earlier.rule.on):
                continue
            remark = (
                _conflict(earlier, one, parts) if _disagree(earlier, one) else _shadow(earlier, one, parts)
            )
            if remark is not None:
                found.append(remark)
    return found


def _disagree(one: Compiled, other: Compiled) -> bool:
    actions = {one.rule.action, other.rule.action}
    return (
        one.rule.priority == other.rule.priority and "allow" in actions and bool(actions & {"ask", "block"})
    )


def _conflict(one: Compiled, other: Compiled, parts: dict[str, frozenset[str]]) -> Remark | None:
    if parts[one.ref.id] == parts[other.ref.id]:
        why = "has the same condition"
    else:
        both = next((place for place in _events_of_both(one, other)), None)
        if both is None:
            return None
        why = f"holds too for the event of {both}"
    what = f"conflicts with {one.ref}, which {why} and the same priority, and says {one.rule.action}"
    return Remark(other.ref, what, "give one of them another priority; until then the answer is block")


def _events_of_both(one: Compiled, other: Compiled) -> Iterator[str]:
    for owner, second in ((one, other), (other, one)):
        for example in owner.rule.examples:
            shown = activation(example.event, sections_of((*one.rule.on, *other.rule.on)))
            if example.holds and owner.condition.ask(shown) is True and second.condition.ask(shown) is True:
                yield f"{owner.rule.file}:{example.line}"


def _shadow(earlier: Compiled, one: Compiled, parts: dict[str, frozenset[str]]) -> Remark | None:
    if earlier.rule.action not in DECIDING or earlier.rule.priority >= one.rule.priority:
        return None
    covered = set(one.rule.on) <= set(earlier.rule.on)
    nothing = frozenset({shape(Const(True, 0))})
    if not covered or not (parts[earlier.ref.id] <= parts[one.ref.id] or parts[earlier.ref.id] == nothing):
        return None
    when = (
        ""
        if earlier.rule.action != "allow" or parts[earlier.ref.id] == nothing
        else ", unless something is missing"
    )
    what = f"never decides{when}: {earlier.ref} holds whenever it does, comes first and says {earlier.rule.action}"
    return Remark(one.ref, what, "take one of them out, or give this one a smaller priority")


def _missing(one: Compiled) -> Iterator[Remark]:
    if one.rule.action not in {"ask", "block"}:
        return
    guarded = {read.path for read in one.condition.reads if read.guarded}
    for read in one.condition.reads:
        row = table.field(read.field)
        section = read.field.partition(".")[0]
        above = {path for path in guarded if read.path.startswith(path + ".") or path == read.path}
        if read.guarded or above:
            continue
        lacking = [
            name for name in one.rule.on if section in table.TYPES.values() and table.TYPES[name] != section
        ]
        if lacking:
            what = f"holds for every {lacking[0]} event, which has no {section}"
            yield Remark(one.ref, what, f"begin with has({read.field}) &&")
        elif row is not None and not row.sure and read.path == read.field:
            what = f"{one.rule.action}s whatever has no {read.field} and is not ruled out otherwise"
            yield Remark(one.ref, what, f"if that is not meant, begin with has({read.field}) &&")
        elif row is not None and row.kind == "map" and read.path != read.field:
            key = read.path.removeprefix(read.field + ".")
            what = f"{one.rule.action}s whatever has no {key} in {read.field} and is not ruled out otherwise"
            yield Remark(one.ref, what, f'if that is not meant, begin with "{key}" in {read.field} &&')


def shape(expr: Expr) -> str:
    """The expression without its places: two that say the same in the same order have one shape."""
    if isinstance(expr, Const):
        return f"{type(expr.value).__name__}:{expr.value!r}"
    if isinstance(expr, Ident):
        return expr.name
    if isinstance(expr, Select):
        return f"{'has ' if expr.test else ''}({shape(expr.operand)}).{expr.field}"
    if isinstance(expr, Collection):
        return f"[{', '.join(map(shape, expr.items))}]"
    if isinstance(expr, Comprehension):
        return f"for {expr.variables} {shape(expr.over)} {[shape(part) for part in expr.inner]}"
    assert isinstance(expr, Call)
    args = [shape(arg) for arg in (*((expr.target,) if expr.target is not None else ()), *expr.args)]
    # a == b and b == a are one condition.
    return f"{expr.function}({', '.join(sorted(args) if expr.function in {'_==_', '_!=_'} else args)})"
