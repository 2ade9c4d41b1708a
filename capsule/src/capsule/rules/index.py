"""Which rules can hold at all for an event, before any condition is evaluated.

A condition `a && b && c` cannot be true, and is not missing either, when one part is surely false: CEL's `&&` is false
as soon as one side is, whatever the other. So parts that compare a field with constants (`==`, `in`, `startsWith`,
`endsWith`, `contains`) are put into tables, and an event whose field has another value rules the rule out by one
look-up. A field that the event does not have, or has with another type, rules out nothing. It refuses everything
cleverer than that.

    index = Index([comparisons_of(condition.tree), …])
    index.candidates({"http": {"host": "x"}})          # a bit set: bit i stands for rule i
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from capsule.rules import event as table
from capsule.rules.expression import conjuncts
from capsule.rules.syntax import Call, Collection, Const, Expr, Ident, Select, Tree

How = Literal["is", "starts", "ends", "contains", "key"]

_METHODS: Final[Mapping[str, How]] = {"startsWith": "starts", "endsWith": "ends", "contains": "contains"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rule holds only if the field is, starts with, ends with or contains one of these, or has one as a key."""

    path: tuple[str, ...]
    how: How
    values: frozenset[str | int]


def comparisons_of(tree: Tree) -> tuple[Comparison, ...]:
    """The parts of the condition that are such comparisons."""
    return tuple(found for part in conjuncts(tree.expr) if (found := _comparison(part)) is not None)


def _comparison(part: Expr) -> Comparison | None:
    if not isinstance(part, Call):
        return None
    if part.function == "_==_":
        left, right = part.args
        if isinstance(left, Const):
            left, right = right, left
        return _made(left, "is", [right])
    if part.function == "@in" and isinstance(part.args[1], Collection):
        return _made(part.args[0], "is", part.args[1].items)
    if part.function == "@in":
        return _made(part.args[1], "key", part.args[:1])
    if part.function in _METHODS and part.target is not None and len(part.args) == 1:
        return _made(part.target, _METHODS[part.function], part.args)
    if part.function == "_||_":
        # `a == 1 || a == 2`: one test when both sides ask the same of one field.
        sides = [_comparison(arg) for arg in part.args]
        first = sides[0]
        if first is not None and all(
            side is not None and (side.path, side.how) == (first.path, first.how) for side in sides
        ):
            return Comparison(
                first.path, first.how, frozenset().union(*(side.values for side in sides if side is not None))
            )
    return None


def _made(subject: Expr, how: How, constants: Sequence[Expr]) -> Comparison | None:
    path = _path(subject)
    row = table.field(".".join(path))
    kinds = {"map": str} if how == "key" else {"string": str, "int": int}
    if row is None or row.kind not in kinds:
        return None
    values = [constant.value for constant in constants if isinstance(constant, Const)]
    # An int field never equals a string constant, and types were checked; anything else is not for a table.
    if len(values) != len(constants) or not all(type(value) is kinds[row.kind] for value in values):
        return None
    if how in {"starts", "ends", "contains"} and "" in values:
        return None
    return Comparison(path, how, frozenset(value for value in values if isinstance(value, str | int)))


def _path(node: Expr) -> tuple[str, ...]:
    if isinstance(node, Ident):
        return (node.name,)
    if isinstance(node, Select) and not node.test:
        above = _path(node.operand)
        return (*above, node.field) if above else ()
    return ()


class Index:
    """Tables over the tests of a list of rules."""

    def __init__(self, comparisons: Sequence[Sequence[Comparison]]) -> None:
        self.size = len(comparisons)
        self.everything = (1 << self.size) - 1
        self.tested = 0
        masks: dict[tuple[tuple[str, ...], How], dict[str | int, int]] = {}
        constrained: dict[tuple[tuple[str, ...], How], int] = {}
        for number, own in enumerate(comparisons):
            for test in _strongest(own):
                self.tested |= 1 << number
                key = (test.path, test.how)
                values = masks.setdefault(key, {})
                constrained[key] = constrained.get(key, 0) | 1 << number
                for value in test.values:
                    values[value] = values.get(value, 0) | 1 << number
        self._tables = [
            _Table(
                path,
                how,
                values,
                self.everything & ~constrained[path, how],
                _lengths(values),
                type(next(iter(values))),
            )
            for (path, how), values in masks.items()
        ]

    def candidates(self, event: Mapping[str, Any]) -> int:
        """The rules that may hold, as a bit set."""
        found = self.everything
        for rows in self._tables:
            here: Any = event
            for name in rows.path:
                try:
                    here = here[name]
                except (KeyError, TypeError):
                    break
            else:
                found &= rows.look(here)
                if not found:
                    return 0
        return found


@dataclass(frozen=True, slots=True)
class _Table:
    path: tuple[str, ...]
    how: How
    values: Mapping[str | int, int]
    others: int
    lengths: tuple[int, ...]
    kind: type

    def look(self, value: object) -> int:
        """The rules that this value of the field does not rule out."""
        if type(value) is not self.kind:
            return -1  # not what the field should be: the conditions say so
        if self.how == "is":
            return self.values.get(value, 0) | self.others  # type: ignore[call-overload, no-any-return]
        found = self.others
        if self.how == "key":
            for key in value:  # type: ignore[attr-defined]
                found |= self.values.get(key, 0)
            return found
        assert isinstance(value, str)
        if self.how == "contains":
            for needle, mask in self.values.items():
                if needle in value:  # type: ignore[operator]
                    found |= mask
            return found
        ends = self.how == "ends"
        for length in self.lengths:
            if length <= len(value):
                found |= self.values.get(value[-length:] if ends else value[:length], 0)
        return found


def _lengths(values: Mapping[str | int, int]) -> tuple[int, ...]:
    return tuple(sorted({len(value) for value in values if isinstance(value, str)}))


def _strongest(comparisons: Sequence[Comparison]) -> Iterator[Comparison]:
    """One test a field and way is enough: two of the same field are seldom both needed."""
    seen: set[tuple[tuple[str, ...], How]] = set()
    for test in sorted(comparisons, key=lambda test: len(test.values)):
        if (test.path, test.how) not in seen:
            seen.add((test.path, test.how))
            yield test


def bits(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set, from the lowest."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
