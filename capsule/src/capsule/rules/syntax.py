r"""The syntax tree of a compiled CEL expression, read from its serialised form.

cel-expr-python compiles and evaluates but shows no tree. Its `serialize()` is a `cel.expr.CheckedExpr` of the CEL
specification (proto/cel/expr/checked.proto and syntax.proto) inside a protobuf `Any`; this reads the few fields that
say which fields a rule reads and which constants it compares them with. It refuses a message it does not understand.

    parse_tree(env.compile('http.host == "x"').serialize()).expr      # Call('_==_', None, (Select(…), Const('x')), …)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

Constant = None | bool | int | float | str | bytes


@dataclass(frozen=True, slots=True)
class Const:
    """A literal."""

    value: Constant
    id: int


@dataclass(frozen=True, slots=True)
class Ident:
    """A variable."""

    name: str
    id: int


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)` when `test` is set."""

    operand: Expr
    field: str
    test: bool
    id: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function, operator or method (then `target` is its receiver)."""

    function: str
    target: Expr | None
    args: tuple[Expr, ...]
    id: int


@dataclass(frozen=True, slots=True)
class Collection:
    """A list or a map literal; of a map, keys and values in turn."""

    items: tuple[Expr, ...]
    id: int


@dataclass(frozen=True, slots=True)
class Comprehension:
    """What `all`, `exists`, `map` and `filter` become."""

    variables: tuple[str, ...]
    over: Expr
    inner: tuple[Expr, ...]
    id: int


Expr = Const | Ident | Select | Call | Collection | Comprehension


@dataclass(frozen=True, slots=True)
class Tree:
    """An expression, and the character offset of each of its nodes."""

    expr: Expr
    offsets: dict[int, int] = field(default_factory=dict)


class UnreadableTreeError(ValueError):
    """The serialised form is not what the CEL specification says."""


def parse_tree(data: bytes) -> Tree:
    """The tree in the bytes of `Expression.serialize()`.

    Raises:
        UnreadableTreeError: the bytes are not a CheckedExpr, or use a node this does not know.
    """
    try:
        checked = next(value for number, value in _fields(data) if number == 2)
        expr: Expr | None = None
        offsets: dict[int, int] = {}
        for number, value in _fields(_bytes(checked)):
            if number == 4:
                expr = _expr(_bytes(value))
            elif number == 5:
                offsets = dict(_positions(_bytes(value)))
    except (IndexError, StopIteration, struct.error, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableTreeError(f"not a serialised CEL expression: {type(error).__name__}") from None
    if expr is None:
        raise UnreadableTreeError("a serialised CEL expression without an expression")
    return Tree(expr, offsets)


def walk(expr: Expr) -> Iterator[Expr]:
    """The node and all below it, from the outside in."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The nodes directly below."""
    if isinstance(expr, Select):
        return (expr.operand,)
    if isinstance(expr, Call):
        return expr.args if expr.target is None else (expr.target, *expr.args)
    if isinstance(expr, Collection):
        return expr.items
    if isinstance(expr, Comprehension):
        return (expr.over, *expr.inner)
    return ()


Value = int | bytes


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(field number, value) of a protobuf message; fixed-width values are their bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire in {1, 2, 5}:
            size, at = _varint(data, at) if wire == 2 else (8 if wire == 1 else 4, at)
            if at + size > len(data):
                raise IndexError("cut off")
            yield number, data[at : at + size]
            at += size
        else:
            raise UnreadableTreeError(f"protobuf wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
    raise UnreadableTreeError("a number of more than ten bytes")


def _bytes(value: Value) -> bytes:
    if isinstance(value, int):
        raise UnreadableTreeError("a number where a message belongs")
    return value


def _number(value: Value) -> int:
    if isinstance(value, bytes):
        raise UnreadableTreeError("a message where a number belongs")
    return value


def _text(value: Value) -> str:
    return _bytes(value).decode()


def _signed(value: Value) -> int:
    number = _number(value)
    return number - 2**64 if number >= 2**63 else number


def _positions(source: bytes) -> Iterator[tuple[int, int]]:
    for number, value in _fields(source):
        if number == 4:
            entry = dict(_fields(_bytes(value)))
            yield _number(entry.get(1, 0)), _number(entry.get(2, 0))


def _expr(data: bytes) -> Expr:
    identity, kind, body = 0, 0, b""
    for number, value in _fields(data):
        if number == 2:
            identity = _number(value)
        else:
            kind, body = number, _bytes(value)
    if kind == 3:
        return Const(_constant(body), identity)
    parts = list(_fields(body))

    def first(number: int, default: Value = b"") -> Value:
        return next((value for own, value in parts if own == number), default)

    def every(number: int) -> tuple[Expr, ...]:
        return tuple(_expr(_bytes(value)) for own, value in parts if own == number)

    if kind == 4:
        return Ident(_text(first(1)), identity)
    if kind == 5:
        return Select(_expr(_bytes(first(1))), _text(first(2)), bool(first(3, 0)), identity)
    if kind == 6:
        return Call(_text(first(2)), next(iter(every(1)), None), every(3), identity)
    if kind == 7:
        return Collection(every(1), identity)
    if kind == 8:
        return Collection(tuple(_entries(parts)), identity)
    if kind == 9:
        names = tuple(_text(value) for own, value in parts if own in {1, 3, 8} and value)
        return Comprehension(
            names, every(2)[0], tuple(node for own in (4, 5, 6, 7) for node in every(own)), identity
        )
    raise UnreadableTreeError(f"an expression of kind {kind}")


def _entries(parts: list[tuple[int, Value]]) -> Iterator[Expr]:
    for own, value in parts:
        if own == 1 and value:
            raise UnreadableTreeError("a message literal")
        if own != 2:
            continue
        for number, inner in _fields(_bytes(value)):
            if number in {3, 4}:
                yield _expr(_bytes(inner))


def _constant(body: bytes) -> Constant:
    for number, value in _fields(body):
        if number == 1:
            return None
        if number == 2:
            return bool(value)
        if number == 3:
            return _signed(value)
        if number == 4:
            return _number(value)
        if number == 5:
            return float(struct.unpack("<d", _bytes(value))[0])
        if number == 6:
            return _text(value)
        if number == 7:
            return _bytes(value)
        raise UnreadableTreeError(f"a constant of kind {number}")
    return None
