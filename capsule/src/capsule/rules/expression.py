"""Conditions: CEL over an event, compiled with types, evaluated in three values.

The language is the Common Expression Language (the CEL specification, langdef.md) by cel-expr-python, with the string
functions, optional values, and `address.inNetwork("10.0.0.0/8")`. What it refuses: fields that the event cannot have
when the rule decides, values of another type, conditions that are not true or false, text that could grow (`replace`,
`join`, `format`), patterns that are not constants. Evaluation has limits: 10 000 steps of a comprehension, RE2 only.

    condition = compile_condition('http.host == "x"', ("http",))
    condition.ask(activation({}, ["http"]))            # Missing(('host',))
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from capsule.rules.environment import checking, known_fields, running
from capsule.rules.inspection import Inspection, Read
from capsule.rules.syntax import Call, Expr, Tree, parse_tree

MAX_SOURCE = 4096
_LITERAL = re.compile(
    r"""[bB]?[rR][bB]?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')"""
    r"""|\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|//[^\n]*""",
    re.DOTALL,
)
_HAS = re.compile(r"\bhas\s*\(\s*[A-Za-z_]\w*(?:\s*\.\s*(?:\w+|`[^`\n]*`))+\s*\)")
_COMPILE_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_KEY = re.compile(r'Key not found in map : "(.*)"', re.DOTALL)
_NAME = re.compile(r'No value with name "(.*)" found')


class ConditionError(ValueError):
    """A condition does not compile.

    Attributes:
        faults: (offset in the condition, what is wrong, what to do), in the order of the text; never empty.
    """

    def __init__(self, faults: Iterable[tuple[int, str, str]]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("; ".join(what for _, what, _ in self.faults))


@dataclass(frozen=True, slots=True)
class Missing:
    """The condition needed a field that the event does not have."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The condition could not be evaluated."""

    why: str


Outcome = bool | Missing | Failed


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition."""

    source: str
    program: Any
    tree: Tree
    reads: tuple[Read, ...]

    def ask(self, activation: Any, event: Mapping[str, Any] | None = None) -> Outcome:
        """True, False, what is missing, or why it fails; never an exception.

        Args:
            activation: the event, as `activation` made it.
            event: the event itself, to name fully what is missing.
        """
        try:
            value = self.program.eval(activation).value()
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            return Failed(" ".join(str(error).split())[:200])
        if value is True or value is False:
            return bool(value)
        return self._fault(str(value), event)

    def _fault(self, text: str, event: Mapping[str, Any] | None) -> Missing | Failed:
        found = _KEY.search(text) or _NAME.search(text)
        if found is None:
            return Failed(" ".join(text.split())[:200])
        key = found[1]
        if event is None:
            return Missing((key,))
        absent = [read.path for read in self.reads if not read.guarded and not present(event, read.path)]
        exact = [
            path
            for path in absent
            if path.rpartition(".")[2] == key or f".{key}." in path or path.endswith(f".{key}")
        ]
        return Missing(tuple(dict.fromkeys(exact or absent or (key,))))


def present(event: Mapping[str, Any], path: str) -> bool:
    """Whether the event has the field; the key of a mapping may hold dots."""
    here: Any = event
    rest = path
    while rest:
        if not isinstance(here, Mapping):
            return False
        name, _, after = rest.partition(".")
        if name not in here:
            return rest in here
        here, rest = here[name], after
    return True


@functools.lru_cache(maxsize=4096)
def compile_condition(source: str, on: tuple[str, ...], *, decided: bool = False) -> Condition:
    """The condition, or what is wrong with it. Kept, so that a file that changed compiles only what changed.

    Args:
        source: CEL, at most 4 KiB.
        on: the event types it is for; keys of `event.TYPES`.
        decided: whether it is asked when everything is over, as detection is.

    Raises:
        ConditionError: with the offset of everything that is wrong.
        RulesUnavailableError: cel-expr-python is not installed.
    """
    if len(source.encode()) > MAX_SOURCE:
        raise ConditionError([(0, f"the condition is longer than {MAX_SOURCE} bytes", "split the rule")])
    program = _compile(running(), source, source)
    tree = parse_tree(program.serialize())
    names = known_fields(on, decided=decided)
    faults, reads = Inspection(source, tree, on, names).run()
    if faults:
        raise ConditionError(faults)
    _check_types(source, on, decided)
    return Condition(source, program, tree, reads)


def compile_any(sources: Iterable[str]) -> Any:
    """One program that is false exactly when every one of these compiled conditions is."""
    return running().compile(" || ".join(f"({source}\n)" for source in sources))


def _compile(environment: Any, text: str, source: str) -> Any:
    try:
        return environment.compile(text)
    except RuntimeError as error:
        faults = [
            (_offset(source, int(line), int(column)), *_explained(what))
            for line, column, what in _COMPILE_ERROR.findall(str(error))
        ]
        # A limit (nesting, length) has no place of its own.
        plain = " ".join(str(error).split())[:200]
        raise ConditionError(faults[:5] or [(0, plain, "make the condition simpler")]) from None


def _explained(what: str) -> tuple[str, str]:
    """The compiler's sentence without what helps nobody, and what to do."""
    what = re.sub(r" \(in container ''\)", "", what.removesuffix(" [INVALID_ARGUMENT]"))
    what = re.sub(r"expecting \{.*", "", what).strip()[:200]
    if what.startswith("has() argument"):
        return (
            "has() asks for a field, not for an element",
            '"name" in http.headers asks whether a mapping has a key',
        )
    overload = re.fullmatch(r"found no matching overload for '(\S+)' applied to '\((.*)\)'", what)
    if overload:
        operator = overload[1].strip("_@")
        return f"{operator} does not take {overload[2].replace(', ', ' and ')}", "both sides need one type"
    return what, ""


def _offset(source: str, line: int, column: int) -> int:
    lines = source.split("\n")
    return min(sum(len(text) + 1 for text in lines[: line - 1]) + column - 1, len(source))


def _check_types(source: str, on: tuple[str, ...], decided: bool) -> None:
    # In the checking environment a field is one variable, and `has` takes a selection: it is always a boolean.
    literals = [match.span() for match in _LITERAL.finditer(source)]

    def always(match: re.Match[str]) -> str:
        if any(start <= match.start() < end for start, end in literals):
            return match[0]
        return "true" + re.sub(r"[^\n]", " ", match[0][4:])

    program = _compile(checking(on, decided), _HAS.sub(always, source), source)
    if program.return_type().name() != "BOOL":
        kind = program.return_type().name().lower()
        raise ConditionError([(0, f"the condition is of type {kind}, not bool", "compare it with something")])


def conjuncts(expr: Expr) -> tuple[Expr, ...]:
    """The parts that all have to be true: `a && (b && c)` → a, b, c."""
    if isinstance(expr, Call) and expr.function == "_&&_":
        return tuple(part for arg in expr.args for part in conjuncts(arg))
    return (expr,)
