"""One Sigma condition → a predicate over one event type; the parsing is pySigma's.

Refused, each by name: fields nobody knows, values that the field cannot have, patterns that RE2 refuses.

    Translation(view, "curl.yml", 1).predicate(parsed(content, "curl.yml", 1))
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any as Anything

from capsule.errors import CapsuleError
from capsule.rules.detection import predicate as p
from capsule.rules.detection.logsource import NEVER, View, kind_of
from capsule.rules.detection.model import refused
from capsule.rules.environment import running
from capsule.rules.inspection import cel_string
from capsule.rules.rule import RuleError

_FIELDS = "see docs/concepts/rules.md for the fields there are"
_RE2 = "patterns are RE2: no look-around, no back-references"


class DetectionUnavailableError(CapsuleError):
    """The package that parses Sigma is not installed."""

    exit_code = 2


def parsed(content: Mapping[str, Anything], file: str, line: int) -> Anything:
    """PySigma's tree of the condition; several conditions are alternatives."""
    try:
        from sigma.collection import SigmaCollection
        from sigma.conditions import ConditionOR
        from sigma.exceptions import SigmaError
    except ImportError:
        raise DetectionUnavailableError(
            "Sigma rules need the package pysigma, which is not installed",
            next_step="install capsule with its extra: capsule[detection]",
        ) from None
    # Of the rest, only what the parser needs: dates, statuses and references of others are theirs to keep in order.
    wanted: dict[str, Anything] = {key: content[key] for key in ("logsource", "detection") if key in content}
    try:
        rule = SigmaCollection.from_dicts([{"title": "rule", **wanted}]).rules[0]
        conditions = [condition.parsed for condition in rule.detection.parsed_condition]  # type: ignore[union-attr]
    except (SigmaError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise refused(file, line, f"this is not Sigma: {said}", "see the Sigma specification") from None
    return conditions[0] if len(conditions) == 1 else ConditionOR(conditions)


class Translation:
    """One condition of pySigma's for one event type."""

    def __init__(self, view: View, file: str, line: int) -> None:
        self.view, self.file, self.line = view, file, line
        self.never: list[str] = []

    def _refused(self, what: str, next_step: str) -> RuleError:
        return refused(self.file, self.line, what, next_step)

    def predicate(self, node: Anything) -> p.Predicate:
        """The predicate for pySigma's tree.

        Raises:
            RuleError: it asks for what the events do not have.
        """
        from sigma import conditions as c

        if isinstance(node, c.ConditionAND):
            return p.All(tuple(self.predicate(arg) for arg in node.args))
        if isinstance(node, c.ConditionOR):
            return p.Any(tuple(self.predicate(arg) for arg in node.args))
        if isinstance(node, c.ConditionNOT):
            return p.Not(self.predicate(node.args[0]))
        if isinstance(node, c.ConditionFieldEqualsValueExpression):
            return self._asked(str(node.field), node.value)
        if isinstance(node, c.ConditionValueExpression):
            return p.Any(tuple(self._keyword(name, node.value) for name in self.view.words))
        raise self._refused(
            f"a condition of kind {type(node).__name__}", "write it with and, or, not and `of`"
        )

    def _keyword(self, name: str, value: Anything) -> p.Predicate:
        from sigma import types as t

        if isinstance(value, t.SigmaExpansion):
            return p.Any(tuple(self._keyword(name, one) for one in value.values))
        if isinstance(value, t.SigmaRegularExpression):
            return self._pattern(name, value)
        parts = _parts(value) if isinstance(value, t.SigmaString) else (str(value),)
        return p.Text(name, (p.ANY, *_trimmed(parts), p.ANY), isinstance(value, t.SigmaCasedString))

    def _asked(self, name: str, value: Anything) -> p.Predicate:
        """The question whether the field has the value."""
        from sigma import types as t

        if isinstance(value, t.SigmaExpansion):
            return p.Any(tuple(self._asked(name, one) for one in value.values))
        own = self.view.find(name)
        if own is None:
            raise self._refused(
                f"nobody knows the field {name} of {self.view.type} events",
                _FIELDS,
            )
        if own == NEVER:
            self.never.append(name)
            absent = isinstance(value, t.SigmaNull) or (isinstance(value, t.SigmaExists) and not value.exists)
            return p.Always(absent)
        if isinstance(own, bool):
            return p.Always(str(_bare(value)).lower() == str(own).lower())
        if isinstance(value, t.SigmaNull):
            return p.Not(p.Exists(own))
        if isinstance(value, t.SigmaExists):
            return p.Exists(own) if value.exists else p.Not(p.Exists(own))
        if isinstance(value, t.SigmaRegularExpression):
            return self._pattern(own, value)
        if isinstance(value, t.SigmaCIDRExpression):
            return p.Network(own, str(value.network))
        if isinstance(value, t.SigmaFieldReference):
            return self._same(own, value)
        return self._value(own, value)

    def _same(self, own: str, value: Anything) -> p.Predicate:
        other = self.view.find(value.field)
        if not isinstance(other, str):
            raise self._refused(f"nobody knows the field {value.field}", _FIELDS)
        if other == NEVER:
            self.never.append(value.field)
            return p.Always(False)
        return p.Same(own, other, "starts" if value.starts_with else "ends" if value.ends_with else "is")

    def _value(self, own: str, value: Anything) -> p.Predicate:
        """Text, numbers and flags, by what the field holds."""
        from sigma import types as t

        kind = kind_of(own)
        if isinstance(value, t.SigmaCompareExpression):
            operator = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "neq": "!="}.get(
                value.op.name.lower()
            )
            number = getattr(value.number, "number", None)
            if kind not in {"int", "double", "json"} or operator is None or number is None:
                raise self._refused(f"{own} does not compare with a number", "compare a number")
            return p.Number(own, operator, number)  # type: ignore[arg-type]
        bare = _bare(value)
        if kind in {"int", "double"}:
            number = _number(bare)
            if number is None:
                raise self._refused(
                    f"{own} is a number, and is compared with {bare!r}", "compare it with a number"
                )
            return p.Number(own, "==", number)
        if kind == "bool":
            if str(bare).lower() not in {"true", "false"}:
                raise self._refused(f"{own} is true or false, and is compared with {bare!r}", "true or false")
            return p.Flag(own, str(bare).lower() == "true")
        if kind == "json" and not isinstance(value, t.SigmaString):
            return p.Flag(own, bare) if isinstance(bare, bool) else p.Number(own, "==", bare)
        if not isinstance(value, t.SigmaString):
            return p.Text(own, (str(bare),))
        parts = _parts(value)
        if not parts:  # events never hold empty text: it is absent
            return p.Any((p.Not(p.Exists(own)), p.Text(own, ())))
        if set(parts) == {p.ANY}:
            return p.Exists(own)
        return p.Text(own, parts, isinstance(value, t.SigmaCasedString))

    def _pattern(self, own: str, value: Anything) -> p.Predicate:
        flags = "".join(
            sorted({"IGNORECASE": "i", "MULTILINE": "m", "DOTALL": "s"}[flag.name] for flag in value.flags)
        )
        if value.regexp is None:
            raise self._refused(f"{own} has no pattern to match", "write one, or null without re")
        regex = (f"(?{flags})" if flags else "") + value.regexp.original
        tried = running().compile(f"''.matches({cel_string(regex)})").eval(data={}).value()
        if not isinstance(tried, bool):
            raise self._refused(
                f"{regex[:80]!r}: {str(tried).partition(': ')[2]}"[:200],
                _RE2,
            )
        return p.Pattern(own, regex)


def _parts(value: Anything) -> tuple[p.Part, ...]:
    from sigma.types import SpecialChars

    found: list[p.Part] = []
    for part in value.s:
        if isinstance(part, str):
            found.append(part)
        elif part in {SpecialChars.WILDCARD_MULTI, SpecialChars.WILDCARD_SINGLE}:
            wild = p.ANY if part is SpecialChars.WILDCARD_MULTI else p.ONE
            if not (found and found[-1] is p.ANY and wild is p.ANY):
                found.append(wild)
        else:
            raise TypeError(f"a placeholder {part}")
    return tuple(found)


def _trimmed(parts: tuple[p.Part, ...]) -> tuple[p.Part, ...]:
    inner = parts[1:] if parts[:1] == (p.ANY,) else parts
    return inner[:-1] if inner[-1:] == (p.ANY,) else inner


def _bare(value: Anything) -> Anything:
    for name in ("number", "boolean"):
        if hasattr(value, name):
            return getattr(value, name)
    return str(value)


def _number(bare: Anything) -> int | float | None:
    if isinstance(bare, int | float) and not isinstance(bare, bool):
        return bare
    return int(bare) if isinstance(bare, str) and re.fullmatch(r"-?[0-9]{1,18}", bare) else None
