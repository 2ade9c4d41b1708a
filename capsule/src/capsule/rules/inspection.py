"""What a condition reads, and what in it may not stand in a rule: one walk over its tree.

It refuses fields that the event does not have when the rule decides, functions whose results could grow (`replace`,
`join`, `format`), patterns and networks that are not constants, and sections as a whole.

    faults, reads = Inspection(source, tree, ("http",), known_fields(("http",), decided=False)).run()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capsule.rules import event as table
from capsule.rules.environment import parsed_network, running
from capsule.rules.syntax import Call, Comprehension, Const, Expr, Ident, Select, Tree, children

# Everything a condition may call. What is not here is not refused for being wrong but for being unbounded or needless.
FUNCTIONS: Final = frozenset({
    "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_&&_", "_||_", "!_", "-_", "_+_", "_-_", "_*_", "_/_", "_%_",
    "_?_:_", "_[_]", "@in", "_?._", "_[?_]", "@not_strictly_false",
    "size", "contains", "startsWith", "endsWith", "matches", "lowerAscii", "upperAscii", "substring", "charAt",
    "indexOf", "lastIndexOf", "trim", "split", "int", "uint", "double", "string", "bool", "dyn", "type",
    "timestamp", "duration", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getHours",
    "getMinutes", "getSeconds", "orValue", "or", "hasValue", "value", "inNetwork",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Read:
    """A field that a condition reads: with the key, when it is one of a mapping; guarded by `has`, `?.` or `[?…]`."""

    path: str
    field: str
    guarded: bool


class Inspection:
    """One walk over a tree."""

    def __init__(
        self, source: str, tree: Tree, on: tuple[str, ...], known: Mapping[str, table.Field]
    ) -> None:
        self.source, self.tree, self.on, self.known = source, tree, on, known
        self.faults: list[tuple[int, str, str]] = []
        self.reads: dict[tuple[str, bool], Read] = {}

    def run(self) -> tuple[list[tuple[int, str, str]], tuple[Read, ...]]:
        """What is wrong (offset, what, next step), and what is read."""
        self._look(self.tree.expr)
        return self.faults, tuple(self.reads.values())

    def _refuse(self, node: Expr, what: str, next_step: str = "") -> None:
        at = self.tree.offsets.get(node.id, 0)
        if isinstance(node, Select) and self.source[at : at + 1] in {".", "("}:
            at += 1 + len(self.source[at + 1 :]) - len(self.source[at + 1 :].lstrip())
        self.faults.append((at, what, next_step))

    def _look(self, node: Expr) -> None:
        path, guarded = self._path_of(node)
        if path:
            self._read(node, path, guarded)
            return
        if isinstance(node, Ident) and (node.name in table.SECTIONS):
            self._refuse(node, f"{node.name} as a whole", f"name a field: {node.name}.…")
        elif isinstance(node, Call):
            self._call(node)
        elif isinstance(node, Comprehension):
            for name in node.variables:
                if name in table.SECTIONS or name in table.TOP:
                    self._refuse(
                        node, f"the variable {name} hides the event's {name}", "give it another name"
                    )
        elif isinstance(node, Const) and isinstance(node.value, str) and "\0" in node.value:
            self._refuse(
                node, "text with a NUL", "conditions see U+FFFD where an event has NUL: write \\uFFFD"
            )
        for child in children(node):
            self._look(child)

    def _call(self, node: Call) -> None:
        if node.function not in FUNCTIONS:
            self._refuse(
                node, f"{node.function}() may not be used in a rule", "see docs/formats/rules.md for what may"
            )
        elif node.function == "matches":
            self._pattern(node)
        elif node.function == "inNetwork":
            self._network(node)

    def _pattern(self, node: Call) -> None:
        pattern = node.args[-1]
        if not (isinstance(pattern, Const) and isinstance(pattern.value, str)):
            self._refuse(node, "a pattern that is not a constant", "write it as one string")
            return
        tried = running().compile(f"''.matches({cel_string(pattern.value)})").eval(data={}).value()
        if not isinstance(tried, bool):
            self._refuse(
                pattern,
                f"{str(tried).partition(': ')[2]}"[:200],
                "patterns are RE2: no look-around, no back-references",
            )

    def _network(self, node: Call) -> None:
        network = node.args[-1]
        if not (isinstance(network, Const) and isinstance(network.value, str)):
            self._refuse(node, "a network that is not a constant", 'write it as one string: "10.0.0.0/8"')
            return
        try:
            parsed_network(network.value)
        except ValueError:
            self._refuse(network, f"{network.value!r} is not a network", 'write it like "10.0.0.0/8"')

    def _path_of(self, node: Expr) -> tuple[tuple[str, ...], bool]:
        """The names from a section down to here, and whether the last of them may be absent."""
        if isinstance(node, Ident):
            return ((node.name,) if node.name in table.TOP else ()), False
        if isinstance(node, Select):
            above, guarded = self._above(node.operand)
            return ((*above, node.field), guarded or node.test) if above else ((), False)
        if isinstance(node, Call) and node.function in {"_?._", "_[?_]", "_[_]"} and len(node.args) == 2:
            key = node.args[1]
            if isinstance(key, Const) and isinstance(key.value, str):
                above, guarded = self._above(node.args[0])
                return ((*above, key.value), guarded or node.function != "_[_]") if above else ((), False)
        return (), False

    def _above(self, node: Expr) -> tuple[tuple[str, ...], bool]:
        if isinstance(node, Ident) and node.name in table.SECTIONS:
            return (node.name,), False
        return self._path_of(node)

    def _read(self, node: Expr, path: tuple[str, ...], guarded: bool) -> None:
        """Note a field, or say that there is none."""
        for length in range(len(path), 0, -1):
            name = ".".join(path[:length])
            row = self.known.get(name)
            if row is None:
                continue
            if length < len(path) and row.kind == "object":
                break
            self.reads[".".join(path), guarded] = Read(".".join(path), name, guarded)
            return
        name = ".".join(path)
        row = table.field(name)
        if row is not None and path[0] in {key.partition(".")[0] for key in self.known}:
            hint = "put it in a rule on http_response" if row.at == "response" else "detection can read it"
            self._refuse(node, f"{name} is not known yet when a rule on {', '.join(self.on)} decides", hint)
        elif path[0] not in {key.partition(".")[0] for key in self.known}:
            self._refuse(
                node,
                f"an event of type {', '.join(self.on)} has no {path[0]}",
                f"add {path[0]} to 'on'" if path[0] in table.TYPES else "",
            )
        else:
            nearest = table.nearest_field(name, self.known)
            self._refuse(
                node,
                f"there is no field {name}",
                f"did you mean {path[0]}.{nearest}?" if nearest else "see docs/reference/events.md",
            )


def cel_string(text: str) -> str:
    """The text as a CEL string literal (langdef.md, string and bytes values)."""
    parts = ['"']
    for char in text:
        code = ord(char)
        if char in '"\\':
            parts.append("\\" + char)
        elif code < 0x20 or code == 0x7F or 0x80 <= code < 0xA0 or code in {0x2028, 0x2029}:
            parts.append(f"\\u{code:04x}")
        else:
            parts.append(char)
    return "".join([*parts, '"'])
