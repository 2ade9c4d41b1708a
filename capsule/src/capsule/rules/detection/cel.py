"""Detections → CEL over the few values they ask about, taken out of an event once.

An event is shown as two flat mappings: `v`, values as they are, and `t`, text in lower case, since Sigma compares
without case. Each question first asks whether the value is there, so that nothing is ever missing. Text is looked for
with `contains`, `startsWith` and `endsWith`; a pattern is used only for wildcards inside and for Sigma's own `re`.

    plan = Plan([predicate])
    plan.source(predicate)         # '(has(t.process_path) && t.process_path.endsWith("/curl"))'
    plan.shown(event)              # {'v': {}, 't': {'process_path': '/usr/bin/curl'}}
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any as Anything

from capsule.rules.detection import predicate as p
from capsule.rules.detection.logsource import DERIVED, kind_of
from capsule.rules.environment import environment
from capsule.rules.index import Comparison
from capsule.rules.inspection import cel_string

MAX_TEXT = 64 * 1024
MAX_LIST = 256


@functools.cache
def conditions() -> Anything:
    """The environment that detections run in."""
    return environment({"v": "object", "t": "object"})


class Plan:
    """The values that some predicates ask about, and their names in CEL."""

    def __init__(self, predicates: Iterable[p.Predicate]) -> None:
        self.folded: dict[str, str] = {}
        self.plain: dict[str, str] = {}
        for predicate in predicates:
            for leaf in p.leaves(predicate):
                if isinstance(leaf, p.Text) and not leaf.cased and leaf.parts:
                    self.folded.setdefault(leaf.field, self._name(leaf.field))
                else:
                    for field in p.fields_of(leaf):
                        self.plain.setdefault(field, self._name(field))
        self._takers = {field: taker(field) for field in {**self.folded, **self.plain}}

    def _name(self, field: str) -> str:
        known = self.folded.get(field) or self.plain.get(field)
        name = re.sub(r"\W", "_", field)
        taken = {*self.folded.values(), *self.plain.values()}
        return known or (name if name not in taken else f"{name}_{len(taken)}")

    def shown(self, event: Mapping[str, Anything]) -> dict[str, dict[str, Anything]]:
        """The event as the conditions see it."""
        values = {field: value for field, take in self._takers.items() if (value := take(event)) is not None}
        return {
            "v": {name: values[field] for field, name in self.plain.items() if field in values},
            "t": {name: _folded(values[field]) for field, name in self.folded.items() if field in values},
        }

    def source(self, node: p.Predicate) -> str:
        """The predicate in CEL."""
        if isinstance(node, p.Always):
            return "true" if node.value else "false"
        if isinstance(node, p.Not):
            return f"!({self.source(node.arg)})"
        if isinstance(node, p.All):
            return "(" + " && ".join(self.source(arg) for arg in node.args) + ")"
        if isinstance(node, p.Any):
            return self._any(node.args)
        return self._question(node)

    def _any(self, args: tuple[p.Predicate, ...]) -> str:
        """Texts looked for in one field are asked after one `has`."""
        groups: dict[tuple[str, bool] | int, list[p.Predicate]] = {}
        for number, arg in enumerate(args):
            single = isinstance(arg, p.Text) and arg.parts and kind_of(arg.field) == "string"
            groups.setdefault(
                (arg.field, arg.cased) if single and isinstance(arg, p.Text) else number, []
            ).append(arg)
        parts = []
        for key, group in groups.items():
            if isinstance(key, int):
                parts.append(self.source(group[0]))
                continue
            variable = self._variable(*key)
            texts = [arg for arg in group if isinstance(arg, p.Text)]
            exact = [p.shape_of(text.parts)[1] for text in texts if p.shape_of(text.parts)[0] == "is"]
            tests = [_text(variable, text) for text in texts if p.shape_of(text.parts)[0] != "is"]
            if exact:
                listed = ", ".join(cel_string(_cased(text, key[1])) for text in exact)
                tests.insert(0, f"{variable} in [{listed}]")
            parts.append(f"(has({variable}) && ({' || '.join(tests)}))")
        return "(" + " || ".join(parts) + ")" if len(parts) > 1 else parts[0]

    def _variable(self, field: str, cased: bool) -> str:
        return f"v.{self.plain[field]}" if cased else f"t.{self.folded[field]}"

    def _question(self, node: p.Predicate) -> str:
        if isinstance(node, p.Text):
            variable = self._variable(node.field, node.cased or not node.parts)
            return _asked(variable, node.field, lambda own: _text(own, node))
        assert not isinstance(node, p.Always | p.All | p.Any | p.Not)
        variable = f"v.{self.plain[node.field]}"
        if isinstance(node, p.Exists):
            return f"has({variable})"
        if isinstance(node, p.Number):
            kind = (
                f"(type({variable}) == int || type({variable}) == double) && "
                if kind_of(node.field) == "json"
                else ""
            )
            return f"(has({variable}) && {kind}{variable} {node.operator} {node.value})"
        if isinstance(node, p.Flag):
            return f"(has({variable}) && {variable} == {str(node.value).lower()})"
        if isinstance(node, p.Network):
            return _asked(variable, node.field, lambda own: f"{own}.inNetwork({cel_string(node.network)})")
        if isinstance(node, p.Pattern):
            return _asked(variable, node.field, lambda own: f"{own}.matches({cel_string(node.regex)})")
        other = f"v.{self.plain[node.other]}"
        test = {
            "is": f"{variable} == {other}",
            "starts": f"{variable}.startsWith({other})",
            "ends": f"{variable}.endsWith({other})",
        }[node.how]
        return f"(has({variable}) && has({other}) && {test})"

    def comparisons(self, node: p.Predicate) -> tuple[Comparison, ...]:
        """What the value of a field must be, begin with, end with or contain for this to be true; see `index`."""
        found = []
        for part in node.args if isinstance(node, p.All) else (node,):
            args = part.args if isinstance(part, p.Any) else (part,)
            shapes = [
                (arg.field, *p.shape_of(arg.parts)) for arg in args
                if isinstance(arg, p.Text) and not arg.cased and arg.parts and kind_of(arg.field) == "string"
            ]  # fmt: skip
            kinds = {(field, how) for field, how, _ in shapes}
            if len(shapes) != len(args) or len(kinds) != 1:
                continue
            field, how = kinds.pop()
            if how != "like":
                values = frozenset(p.lowered(text) for _, _, text in shapes)
                found.append(Comparison(("t", self.folded[field]), how, values))
        return tuple(found)


def _asked(variable: str, field: str, test: Callable[[str], str]) -> str:
    if kind_of(field) == "strings":
        return f"(has({variable}) && {variable}.exists(x, {test('x')}))"
    text = f"type({variable}) == string && " if kind_of(field) == "json" else ""
    return f"(has({variable}) && {text}{test(variable)})"


def _cased(text: str, cased: bool) -> str:
    return text if cased else p.lowered(text)


def _text(variable: str, node: p.Text) -> str:
    how, text = p.shape_of(node.parts)
    text = cel_string(_cased(text, node.cased))
    if how == "is":
        return f"{variable} == {text}"
    if how == "like":
        return f"{variable}.matches({cel_string(like_pattern(node))})"
    call = {"contains": "contains", "starts": "startsWith", "ends": "endsWith"}[how]
    return f"{variable}.{call}({text})"


def like_pattern(node: p.Text) -> str:
    """Text with wildcards as an RE2 pattern, for values in lower case unless it is `cased`."""
    parts = ["(?s)^"]
    for part in node.parts:
        if isinstance(part, str):
            parts.append(re.sub(r"([!-,.:-@\[-^`{-~])", r"\\\1", _cased(part, node.cased)))
        else:
            parts.append(".*" if part is p.ANY else ".")
    return "".join([*parts, "$"])


def taker(field: str) -> Callable[[Mapping[str, Anything]], Anything]:
    """What takes the field's value out of an event, None when it is not there or not of its kind.

    Text is cut at 64 KiB, numbers and flags pass, lists keep their texts; NUL becomes U+FFFD, as CEL would cut there.
    """
    derived = DERIVED.get(field)
    keys = keys_of(derived or field)
    kind = "strings" if derived else kind_of(field)

    def take(event: Mapping[str, Anything]) -> Anything:
        here: Anything = event
        for key in keys:
            if type(here) is not dict or key not in here:
                return None
            here = here[key]
        return _fit(here, kind)

    def take_joined(event: Mapping[str, Anything]) -> Anything:
        words = take(event)
        return " ".join(words)[:MAX_TEXT] if words else None

    return take_joined if derived else take


def keys_of(field: str) -> tuple[str, ...]:
    """The keys down to the field; the key of a mapping may hold dots."""
    section, _, rest = field.partition(".")
    for prefix in ("headers", "response.headers"):
        if section == "http" and rest.startswith(prefix + "."):
            return ("http", *prefix.split("."), rest.removeprefix(prefix + "."))
    return tuple(field.split("."))


def _fit(value: Anything, kind: str) -> Anything:
    if type(value) is str:
        if kind not in {"string", "json"}:
            return None
        value = value[:MAX_TEXT]
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if type(value) is list:
        if kind in {"strings", "json"}:
            return [_fit(item, "string") for item in value[:MAX_LIST] if type(item) is str]
        return True if kind == "objects" else None
    if type(value) is bool:
        return value if kind in {"bool", "json"} else None
    if isinstance(value, int | float):
        if kind not in {"int", "double", "json"} or abs(value) >= 2**1023:
            return None
        return value if kind != "double" and -(2**63) <= value < 2**63 else float(value)
    # Of an object only that it is there.
    return True if type(value) is dict and kind in {"object", "map", "json"} else None


def _folded(value: Anything) -> Anything:
    if type(value) is str:
        return p.lowered(value)
    return [p.lowered(item) for item in value if type(item) is str] if type(value) is list else value
