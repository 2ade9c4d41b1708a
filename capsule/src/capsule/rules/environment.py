"""The environments of CEL that conditions are checked and run in, and events as these see them.

Two of them: one that runs, where each section of an event is a mapping, so that `has` works; and one that checks, where
each field is a typed variable. What it refuses: events that are no JSON.

    running().compile('http.host == "x"').eval(activation({"http": {"host": "x"}}, ["http"])).value()    # True
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from capsule.errors import CapsuleError
from capsule.rules import event as table


class RulesUnavailableError(CapsuleError):
    """The package that evaluates conditions is not installed."""

    exit_code = 2


@functools.cache
def binding() -> Any:
    """The package that compiles and evaluates.

    Raises:
        RulesUnavailableError: it is not installed.
    """
    try:
        from cel_expr_python import cel
    except ImportError:
        raise RulesUnavailableError(
            "rules need the package cel-expr-python, which is not installed",
            next_step="install capsule with its extra: capsule[egress]",
        ) from None
    return cel


@functools.lru_cache(maxsize=512)
def parsed_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The network, parsed once.

    Raises:
        ValueError: the text is none.
    """
    return ipaddress.ip_network(text, strict=False)


def in_network(address: str, network: str) -> bool:
    """Whether the address is in the network; IPv4 in IPv6 (RFC 4291, 2.5.5.2) counts as IPv4, a name is in none.

    Raises:
        ValueError: the second is no network.
    """
    try:
        own = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(own, ipaddress.IPv6Address) and own.ipv4_mapped is not None:
        own = own.ipv4_mapped
    return own in parsed_network(network)


def environment(variables: Mapping[str, str]) -> Any:
    """An environment with these variables.

    Args:
        variables: name → kind, as the table of events has kinds.

    Raises:
        RulesUnavailableError: cel-expr-python is not installed.
    """
    cel = binding()
    from cel_expr_python.ext import ext_optional, ext_strings

    text, boolean = cel.Type.STRING, cel.Type.BOOL
    overload = cel.Overload(
        "string_in_network", return_type=boolean, parameters=[text, text], is_member=True, impl=in_network
    )
    return cel.NewEnv(
        variables={name: _type(kind) for name, kind in variables.items()},
        extensions=[ext_strings.ExtStrings(), ext_optional.ExtOptional()],
        functions=[cel.FunctionDecl("inNetwork", [overload])],
    )


def _type(kind: str) -> Any:
    types = binding().Type
    text, anything = types.STRING, types.DYN
    return {
        "string": text, "int": types.INT, "double": types.DOUBLE, "bool": types.BOOL, "strings": types.List(text),
        "map": types.Map(text, text), "object": types.Map(text, anything),
        "objects": types.List(types.Map(text, anything)), "json": anything,
    }[kind]  # fmt: skip


@functools.cache
def running() -> Any:
    """The environment that conditions run in: every section is one mapping."""
    sections = dict.fromkeys(table.SECTIONS, "object")
    return environment({**sections, **{name: row.kind for name, row in table.TOP.items()}})


@functools.cache
def checking(on: tuple[str, ...], decided: bool) -> Any:
    """The environment that types are checked in: every field is a variable with dots in its name."""
    seen = known_fields(on, decided=decided)
    sections = {path.partition(".")[0] for path in seen} - set(table.TOP)
    return environment(
        {**dict.fromkeys(sections, "object"), **{path: row.kind for path, row in seen.items()}}
    )


@functools.cache
def known_fields(on: tuple[str, ...], *, decided: bool) -> Mapping[str, table.Field]:
    """The fields that a rule on these event types may read."""
    return {path: row for name in on for path, row in table.visible(name, decided=decided).items()}


_EMPTY: Final[Mapping[str, Any]] = {}
_JSON: Final = msgspec.json.Encoder()


def sections_of(on: Iterable[str]) -> frozenset[str]:
    """The sections that conditions on these event types may name."""
    return frozenset({*table.EVENT_SECTIONS, *(table.TYPES[name] for name in on)})


def activation(event: Mapping[str, Any], sections: Iterable[str]) -> Any:
    """The event as every condition can be asked about it, made once.

    The binding cuts text at its first NUL, which would hide what follows: conditions see U+FFFD instead.
    A whole number beyond 64 bits, which a body of JSON may hold, becomes a fraction.

    Args:
        event: as events.md has it.
        sections: what conditions may name; a section that the event does not have is an empty one.

    Raises:
        RuntimeError, ValueError, TypeError: the event holds what is no JSON (a lone surrogate, say).
    """
    if b"\\u0000" in _JSON.encode(event) or _has_json(event):
        event = _representable(event)
    shown = dict(event)
    for name in sections:
        if name not in shown:
            shown[name] = _EMPTY
    return running().Activation(shown)


def _has_json(event: Mapping[str, Any]) -> bool:
    http = event.get("http")
    body = http.get("body") if isinstance(http, dict) else None
    mcp = event.get("mcp")
    return (isinstance(body, dict) and "json" in body) or (isinstance(mcp, dict) and "arguments" in mcp)


def _representable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 2**1023 else float("inf")
    if isinstance(value, Mapping):
        return {_representable(key): _representable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_representable(inner) for inner in value]
    return value
