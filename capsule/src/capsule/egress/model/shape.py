"""What every dialect makes of a call: a request, an answer that grows, and typed looks into untrusted JSON.

Nothing here fails on a value of the wrong type: it is absent.

    text(untrusted, "model")        # str or None
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

MAX_NAME: Final = 200
"""Characters of a name that came from outside."""
MAX_LIST: Final = 256
"""Entries of a list that came from outside."""
_MAX_COUNT: Final = 2**53


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of a model. Sizes in bytes of JSON text.

    Attributes:
        messages: the turns in order, as they are hashed for linking; their number is what the event tells.
        tools: names of what is offered, the provider's own under their types.
        servers: of MCP, and connectors, that the provider is to call.
        answered: ids of the tool calls whose results are sent with it.
        previous: the id of the response it says it goes on from.
        answers: how many of them are to be written, each of up to `max_tokens`.
        background: it is to go on when it has been answered.
    """

    name: str | None
    stream: bool
    system_size: int = 0
    messages: tuple[object, ...] = ()
    tools: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    max_tokens: int | None = None
    answered: tuple[str, ...] = ()
    previous: str | None = None
    answers: int = 1
    background: bool = False


@dataclass(slots=True)
class ToolCall:
    """A tool that the model wants to be called."""

    id: str | None = None
    name: str | None = None
    arguments_size: int = 0


@dataclass(slots=True)
class Answer:
    """What is known of the answer so far. Tokens: None where the provider did not say.

    Attributes:
        input_tokens: everything that was read, cached or not.
        output_tokens: everything that was written, reasoning included.
        written: bytes of what a stream brought so far: text, thoughts, arguments.
        background: what it uses is not known with it, as it goes on elsewhere.
    """

    name: str | None = None
    response_id: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    stop_reason: str | None = None
    error: str | None = None
    tools: dict[object, ToolCall] = field(default_factory=dict)
    understood: bool = False
    written: int = 0
    background: bool = False

    def tool(self, key: object) -> ToolCall:
        """The call under this key of the provider's (an index, an id), made when it is new."""
        if key not in self.tools and len(self.tools) >= MAX_LIST:
            return ToolCall()
        return self.tools.setdefault(key, ToolCall())


class Dialect(Protocol):
    """How one API writes its requests and answers."""

    @property
    def api(self) -> str:
        """Its name in events."""
        ...

    def request(self, untrusted: Mapping[str, Any], path: str) -> Request | None:
        """What the body asks; None when it is not of this shape."""
        ...

    def whole(self, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """Take an answer that came in one piece."""
        ...

    def part(self, name: str, untrusted: Mapping[str, Any], answer: Answer) -> None:
        """Take one event of a stream; `name` is the event's."""
        ...


def loads(untrusted_text: str | bytes) -> object:
    """JSON, or None.

    None also for what is too deep, for numbers that no program should be given, and for objects with a key twice, of
    which two readers may take different ones.
    """
    try:
        return json.loads(untrusted_text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key twice")
    return found


def text(untrusted: object, *names: str) -> str | None:
    """The text under a path of names."""
    found = under(untrusted, *names)
    return _written(found[:MAX_NAME]) if isinstance(found, str) else None


def count(untrusted: object, *names: str) -> int | None:
    """The number of tokens under a path of names: a whole one, not negative."""
    found = under(untrusted, *names)
    plain = isinstance(found, int) and not isinstance(found, bool)
    return found if plain and 0 <= found < _MAX_COUNT else None


def several(untrusted: object, *names: str) -> int:
    """How many answers are asked for under a path of names; 1 where nothing is said."""
    return max(1, count(untrusted, *names) or 1)


def items(untrusted: object, *names: str) -> Iterator[Mapping[str, Any]]:
    """The objects in the list under a path of names, at most `MAX_LIST`."""
    found = under(untrusted, *names)
    if isinstance(found, list):
        yield from (item for item in found[:MAX_LIST] if isinstance(item, dict))


def under(untrusted: object, *names: str) -> Any:
    """The value under a path of names, or None."""
    for name in names:
        untrusted = untrusted.get(name) if isinstance(untrusted, dict) else None
    return untrusted


def size(untrusted: object) -> int:
    """How large a value is: bytes of its text when it is text, else of its JSON; 0 for nothing."""
    if untrusted is None:
        return 0
    if isinstance(untrusted, str):
        return len(untrusted.encode("utf-8", "surrogatepass"))
    try:
        return len(json.dumps(untrusted, separators=(",", ":")))
    except RecursionError:  # interpreters read deeper than they write
        return 0


def _written(found: str) -> str:
    """The text as it can stand in UTF-8: JSON may hold half a character."""
    return found if found.isascii() else found.encode("utf-8", "replace").decode()


def failure(untrusted: object) -> str | None:
    """What an `error` value says, in one line: its type or code, and its message."""
    if isinstance(untrusted, str):
        return _written(untrusted[:MAX_NAME])
    kind = text(untrusted, "type") or text(untrusted, "code") or text(untrusted, "status")
    message = text(untrusted, "message")
    told = ": ".join(part for part in (kind, message) if part)
    return told[: 2 * MAX_NAME] or None


def total(*parts: int | None) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
