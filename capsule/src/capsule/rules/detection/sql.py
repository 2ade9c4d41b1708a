"""Detections → SQL over the session database, for looking through what has happened.

One SELECT a rule, over the table `events(id, run, seq, time, type, event)` whose column `event` is the event as JSON.
The values of a rule are parameters, never text in the statement. Two functions must be registered on the connection:
`regexp(pattern, value)` (RE2) and `in_network(address, network)`; `FUNCTIONS` has both. It refuses nothing: what CEL
says of an event, this says of its row (but text is not cut at 64 KiB). Correlations are not SQL: select what the
detections they name hold for, and feed the hits, in order of time, to the same `Window` that runs live.

    query = select(detection)
    connection.execute(query.sql, query.parameters)          # rows (id, run, seq, time, type, event)
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any as Anything
from typing import Final

from capsule.rules.detection import predicate as p
from capsule.rules.detection.cel import keys_of, like_pattern
from capsule.rules.detection.logsource import DERIVED, kind_of
from capsule.rules.detection.model import Detection
from capsule.rules.environment import in_network
from capsule.rules.rewrite import re2

COLUMNS: Final = ("id", "run", "seq", "time", "type", "event")
# What SQLite's json_type says of a value of each kind.
_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("text",), "int": ("integer", "real"), "double": ("integer", "real"), "bool": ("true", "false"),
    "strings": ("array",), "object": ("object",), "map": ("object",), "objects": ("array",),
    "json": ("text", "integer", "real", "true", "false", "array", "object"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """A statement and its parameters."""

    sql: str
    parameters: tuple[str | int | float, ...]


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> Anything:
    return re2().compile(pattern)


def regexp(pattern: str, value: object) -> bool:
    """SQLite's `value REGEXP pattern`, by RE2 as in CEL's `matches`."""
    return isinstance(value, str) and _compiled(pattern).search(value) is not None


def within(address: object, network: str) -> bool:
    """`in_network(address, network)`: as in conditions; what is no text is in none."""
    return isinstance(address, str) and in_network(address, network)


# Name → (number of arguments, function), all deterministic.
FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., bool]]]] = {
    "regexp": (2, regexp),
    "in_network": (2, within),
}


def select(detection: Detection) -> Query:
    """Every row of `events` that the detection holds for, in order of time."""
    statement = _Statement()
    branches = [
        f"(type = {statement.put(kind)} AND {statement.where(predicate)})"
        for kind, predicate in detection.branches.items()
    ]
    found = " OR ".join(branches) or "0"
    # Only words of this module and numbered parameters are in it.
    sql = f"SELECT {', '.join(COLUMNS)} FROM events WHERE {found} ORDER BY time, run, seq"  # noqa: S608
    return Query(sql, tuple(statement.parameters))


class _Statement:
    def __init__(self) -> None:
        self.parameters: list[str | int | float] = []

    def put(self, value: str | float) -> str:
        self.parameters.append(value)
        return f"?{len(self.parameters)}"

    def where(self, node: p.Predicate) -> str:
        if isinstance(node, p.Always):
            return str(int(node.value))
        if isinstance(node, p.Not):
            return f"NOT {self.where(node.arg)}"
        if isinstance(node, p.All | p.Any):
            word = " AND " if isinstance(node, p.All) else " OR "
            return "(" + word.join(self.where(arg) for arg in node.args) + ")"
        return self._question(node)

    def _question(self, node: p.Predicate) -> str:
        assert not isinstance(node, p.Always | p.All | p.Any | p.Not)
        if isinstance(node, p.Text):
            return self._text(node.field, lambda value: self._like(value, node))
        if isinstance(node, p.Pattern):
            return self._text(node.field, lambda value: f"{value()} REGEXP {self.put(node.regex)}")
        if isinstance(node, p.Network):
            return self._text(node.field, lambda value: f"in_network({value()}, {self.put(node.network)})")
        if isinstance(node, p.Exists):
            return self._exists(node.field)
        if isinstance(node, p.Flag):
            return f"IFNULL({self._type_of(node.field)} = '{str(node.value).lower()}', 0)"
        if isinstance(node, p.Number):
            kind = f"IFNULL({self._type_of(node.field)} IN ('integer', 'real'), 0)"
            return f"({kind} AND {self._value(node.field)} {node.operator} {self.put(node.value)})"
        return self._same(node)

    def _exists(self, field: str) -> str:
        if field in DERIVED:
            return f"({self._type_of(field)} IS 'array' AND IFNULL({self._derived(field)}, '') <> '')"
        kinds = ", ".join(f"'{kind}'" for kind in _TYPES[kind_of(field)])
        return f"IFNULL({self._type_of(field)} IN ({kinds}), 0)"

    def _same(self, node: p.Same) -> str:
        own, other = self._value(node.field), self._value(node.other)
        both = f"{self._exists(node.field)} AND {self._exists(node.other)}"
        if node.how == "is":
            return f"({both} AND {own} = {other})"
        if node.how == "starts":
            return f"({both} AND substr({own}, 1, length({other})) = {other})"
        tail = f"substr({own}, length({own}) - length({other}) + 1)"
        return f"({both} AND length({own}) >= length({other}) AND {tail} = {other})"

    def _path(self, field: str) -> str:
        keys = keys_of(DERIVED.get(field, field))
        return self.put("$" + "".join("." + json.dumps(key, ensure_ascii=False) for key in keys))

    def _type_of(self, field: str) -> str:
        return f"json_type(event, {self._path(field)})"

    def _value(self, field: str) -> str:
        return self._derived(field) if field in DERIVED else f"json_extract(event, {self._path(field)})"

    def _derived(self, field: str) -> str:
        words = f"SELECT group_concat(value, ' ') FROM json_each(event, {self._path(field)})"  # noqa: S608
        return f"({words} WHERE type = 'text')"

    def _text(self, field: str, test: Callable[[Callable[[], str]], str]) -> str:
        """A test of the field's text, or of any text in the list it is."""
        if kind_of(field) == "strings":
            own = test(lambda: "one.value")
            rows = f"SELECT 1 FROM json_each(event, {self._path(field)}) AS one"  # noqa: S608
            return (
                f"({self._type_of(field)} IS 'array' AND EXISTS ({rows} WHERE one.type = 'text' AND {own}))"
            )
        expected = "array" if field in DERIVED else "text"
        return f"({self._type_of(field)} IS '{expected}' AND IFNULL({test(lambda: self._value(field))}, 0))"

    def _like(self, value: Callable[[], str], node: p.Text) -> str:
        how, text = p.shape_of(node.parts)
        if how == "is":
            return f"{value()} = {self.put(text)}" + ("" if node.cased else " COLLATE NOCASE")
        if not node.cased:
            return f"{value()} LIKE {self.put(like(node.parts))} ESCAPE '\\'"
        if how == "contains":
            return f"instr({value()}, {self.put(text)}) > 0"
        return f"{value()} REGEXP {self.put(like_pattern(node))}"


def like(parts: tuple[p.Part, ...]) -> str:
    r"""Text with wildcards as a pattern of LIKE with `\` as its escape; LIKE ignores the case of ASCII letters."""
    found = []
    for part in parts:
        if isinstance(part, str):
            found.append(part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_"))
        else:
            found.append("%" if part is p.ANY else "_")
    return "".join(found)
