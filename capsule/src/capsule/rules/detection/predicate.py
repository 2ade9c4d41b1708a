"""What a detection asks of one event, between Sigma and the two languages it is compiled to (CEL and SQL).

A tree of `All`, `Any` and `Not` over simple questions about one field each. A field that the event does not have makes
every question about it false, and `Not` of that true, as Sigma has it. It refuses nothing: `simplified` folds what is
always true or false.

    simplified(All((Always(True), Text("process.path", (ANY, "/curl")))))     # Text('process.path', …)
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal


class Wild(enum.Enum):
    """What stands for text that is not given: any, or one character."""

    MANY = "*"
    ONE = "?"


ANY: Final = Wild.MANY
ONE: Final = Wild.ONE
Part = str | Wild
Operator = Literal["==", "<", "<=", ">", ">=", "!="]


@dataclass(frozen=True, slots=True)
class Always:
    """True or false whatever the event."""

    value: bool


@dataclass(frozen=True, slots=True)
class Text:
    """The field is this text, with wildcards; of a list, one of its elements is. ASCII letters alike unless `cased`."""

    field: str
    parts: tuple[Part, ...]
    cased: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """The field has a match of the RE2 pattern; of a list, one of its elements has."""

    field: str
    regex: str


@dataclass(frozen=True, slots=True)
class Number:
    """The field compares with the number like this."""

    field: str
    operator: Operator
    value: int | float


@dataclass(frozen=True, slots=True)
class Flag:
    """The field is true, or false."""

    field: str
    value: bool


@dataclass(frozen=True, slots=True)
class Network:
    """The field is an address in the network."""

    field: str
    network: str


@dataclass(frozen=True, slots=True)
class Exists:
    """The event has the field."""

    field: str


@dataclass(frozen=True, slots=True)
class Same:
    """Both fields hold the same; with `how`, the first begins or ends with the second."""

    field: str
    other: str
    how: Literal["is", "starts", "ends"] = "is"


@dataclass(frozen=True, slots=True)
class All:
    """Every one of these."""

    args: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one of these."""

    args: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Not this."""

    arg: Predicate


Predicate = Always | Text | Pattern | Number | Flag | Network | Exists | Same | All | Any | Not


def simplified(node: Predicate) -> Predicate:
    """The same question with nested `All`s and `Any`s flattened and constants folded."""
    if isinstance(node, Not):
        inner = simplified(node.arg)
        if isinstance(inner, Always):
            return Always(not inner.value)
        return inner.arg if isinstance(inner, Not) else Not(inner)
    if not isinstance(node, All | Any):
        return node
    kind, stops = (All, False) if isinstance(node, All) else (Any, True)
    args: list[Predicate] = []
    for arg in map(simplified, node.args):
        if isinstance(arg, Always):
            if arg.value is stops:
                return arg
        elif isinstance(arg, kind):
            args += arg.args
        else:
            args.append(arg)
    unique = tuple(dict.fromkeys(args))
    if len(unique) == 1:
        return unique[0]
    return kind(unique) if unique else Always(not stops)


def leaves(node: Predicate) -> Iterator[Predicate]:
    """The simple questions."""
    if isinstance(node, All | Any):
        for arg in node.args:
            yield from leaves(arg)
    elif isinstance(node, Not):
        yield from leaves(node.arg)
    else:
        yield node


def fields_of(node: Predicate) -> dict[str, None]:
    """The fields asked about, in their order."""
    found: dict[str, None] = {}
    for leaf in leaves(node):
        if not isinstance(leaf, Always | All | Any | Not):
            found[leaf.field] = None
            if isinstance(leaf, Same):
                found[leaf.other] = None
    return found


def shape_of(parts: tuple[Part, ...]) -> tuple[Literal["is", "contains", "starts", "ends", "like"], str]:
    """How text with these wildcards is looked for, and the text: `*x` ends, `x*` starts, `*x*` contains."""
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts) <= 1:
        return "is", texts[0] if texts else ""
    if len(texts) != 1 or ONE in parts:
        return "like", ""
    where = parts.index(texts[0])
    before, after = parts[:where], parts[where + 1 :]
    if before and after:
        return "contains", texts[0]
    return ("ends" if before else "starts"), texts[0]


def lowered(text: str) -> str:
    """ASCII letters in lower case and no other, as SQLite's LIKE and NOCASE compare."""
    return (
        text.lower()
        if text.isascii()
        else text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
    )
