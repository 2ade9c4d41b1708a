"""MCP over HTTP, seen from the side: JSON-RPC messages of a request and of its answer, told as `mcp` events.

Sans I/O, after the streamable HTTP transport of the Model Context Protocol: a POST carries one message (older clients:
a list), the answer is JSON or server-sent events; a GET opens a stream of events. Nothing here raises on what peers
sent. Refuses to take for MCP what is JSON-RPC of something else: a method or a header of MCP's must say so.

    exchange = McpExchange("mcp.example", headers)
    exchange.request(body)                # [{"method": "tools/call", "server": "mcp.example", "direction": "out", …}]
    exchange.answers("text/event-stream")
    exchange.feed(chunk); exchange.finish()           # events of the answers, joined to what they answer
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from capsule.egress.model.sse import EventStream

BODY = 1 << 20
"""Bytes of a body that are looked at."""
MESSAGES = 64
"""Messages of one body that are told."""
CALLS = 256
"""Calls that wait for their answer."""
_TEXT = 200
ARGUMENTS = 64 << 10
"""Bytes of arguments as JSON that rules see."""
NAME = 2048
"""Characters of a tool's name or a resource's address that are told."""
_METHODS = frozenset({"initialize", "ping"})
_FAMILIES = (
    "completion/", "elicitation/", "logging/", "notifications/", "prompts/", "resources/", "roots/", "sampling/",
    "server/", "subscriptions/", "tasks/", "tools/",
)  # fmt: skip
_HEADERS = frozenset({"mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name"})
# Where a family's requests name what they are about.
_SUBJECTS = {"tools/": "name", "prompts/": "name", "resources/": "uri"}
Event = dict[str, Any]


def of_mcp(method: object) -> bool:
    """Whether a JSON-RPC method is one of MCP's."""
    return isinstance(method, str) and (method in _METHODS or method.startswith(_FAMILIES))


class McpExchange:
    """One HTTP exchange.

    Args:
        server: the host it goes to.
        headers: the request's; only their names matter.
        certain: it is known to be MCP, whatever its headers are.
    """

    def __init__(self, server: str, untrusted_headers: Iterable[str] = (), *, certain: bool = False) -> None:
        self._server = server
        self._certain = certain or any(name.lower() in _HEADERS for name in untrusted_headers)
        self._calls: dict[object, tuple[str, str | None]] = {}
        self._stream: EventStream | None = None
        self._held: bytearray | None = None

    @property
    def is_mcp(self) -> bool:
        """Whether a header or a method said so; while it is False an answer is not looked at."""
        return self._certain

    def request(self, untrusted_body: bytes) -> list[Event]:
        """The messages of a request's body; none when it is not MCP, or longer than `BODY`."""
        messages = _messages(untrusted_body)
        self._certain = self._certain or any(of_mcp(message.get("method")) for message in messages)
        return [event for message in messages if (event := self._told(message, "out")) is not None]

    def answers(self, content_type: str) -> None:
        """The answer's headers."""
        kind = content_type.partition(";")[0].strip().lower()
        if self._certain and kind == "text/event-stream":
            self._stream = EventStream()
        elif self._certain and kind == "application/json":
            self._held = bytearray()

    def feed(self, untrusted_chunk: bytes) -> list[Event]:
        """The messages that these bytes of the answer complete."""
        if self._stream is not None:
            found = [_messages(event.data.encode()) for event in self._stream.feed(untrusted_chunk)]
            return [
                event
                for messages in found
                for message in messages
                if (event := self._told(message, "in")) is not None
            ]
        if self._held is not None:
            self._held += untrusted_chunk
            if len(self._held) > BODY:
                self._held = None
        return []

    def finish(self) -> list[Event]:
        """The answer is over."""
        held, self._held = self._held, None
        return self.answer(bytes(held)) if held else []

    def answer(self, untrusted_body: bytes) -> list[Event]:
        """The messages of a whole answer."""
        found = [self._told(message, "in") for message in _messages(untrusted_body)]
        return [event for event in found if event is not None]

    def forget(self, identity: str | int) -> None:
        """No answer to this request is waited for any more."""
        self._calls.pop(_identity(identity), None)

    def _told(self, message: Mapping[str, Any], direction: str) -> Event | None:
        method, identity = message.get("method"), _identity(message.get("id"))
        if isinstance(method, str):
            if not self._certain and not of_mcp(method):
                return None
            return self._asked(method, identity, message.get("params"), direction)
        if identity is None or not ({"result", "error"} & message.keys()):
            return None
        known = self._calls.pop(identity, None)
        if known is None:
            return None  # an answer to what was asked elsewhere says nothing about what it answers
        event: Event = {"method": known[0], "server": self._server, "request_id": identity}
        if known[1] is not None:
            event["tool"] = known[1]
        error = _error(message)
        if error is not None:
            event["error"] = error
        if "result" in message:
            event["result_size"] = len(_compact(message["result"]))
        return event

    def _asked(self, method: str, identity: str | None, untrusted_params: object, direction: str) -> Event:
        params = untrusted_params if isinstance(untrusted_params, dict) else {}
        subject = next(
            (params.get(name) for family, name in _SUBJECTS.items() if method.startswith(family)), None
        )
        tool = _written(subject, NAME) if isinstance(subject, str) else None
        event: Event = {"method": _written(method), "server": self._server, "direction": direction}
        if tool is not None:
            event["tool"] = tool
        if identity is not None:
            event["request_id"] = identity
            # Ids of what the server asks are its own: an answer to them goes the other way.
            if direction == "out" and len(self._calls) < CALLS:
                self._calls[identity] = (event["method"], tool)
        if method == "tools/call" or "arguments" in params:
            arguments = params.get("arguments")
            given = _compact(arguments)
            event["arguments_size"] = len(given)
            if isinstance(arguments, dict) and 0 < len(given) <= ARGUMENTS:
                event["arguments"] = arguments
            if given:
                event["arguments_sha256"] = hashlib.sha256(given).hexdigest()
        return event


def _messages(untrusted_body: bytes) -> list[Mapping[str, Any]]:
    """The JSON-RPC 2.0 objects of a body."""
    if len(untrusted_body) > BODY:
        return []
    try:
        untrusted = json.loads(untrusted_body)
    except (ValueError, RecursionError):
        return []
    items = untrusted if isinstance(untrusted, list) else [untrusted]
    return [item for item in items[:MESSAGES] if isinstance(item, dict) and item.get("jsonrpc") == "2.0"]


def _identity(untrusted: object) -> str | None:
    """A message's id as text; a number and its text are different ids, and are told alike."""
    if isinstance(untrusted, str):
        return _written(untrusted)
    plain = isinstance(untrusted, int) and not isinstance(untrusted, bool)
    return str(untrusted) if plain and abs(untrusted) < 2**63 else None  # type: ignore[arg-type]


def _written(untrusted: str, most: int = _TEXT) -> str:
    """A text of bounded length that UTF-8 can hold: JSON may have half a character."""
    return untrusted[:most].encode("utf-8", "replace").decode()


def _compact(untrusted: object) -> bytes:
    """A value as JSON without spaces; nothing for null."""
    if untrusted is None:
        return b""
    try:
        text = json.dumps(untrusted, separators=(",", ":"), ensure_ascii=False)
    except RecursionError:
        return b""
    return text.encode("utf-8", "surrogatepass")


def _error(message: Mapping[str, Any]) -> str | None:
    """A protocol error, or a tool that says it failed."""
    untrusted = message.get("error")
    if isinstance(untrusted, dict):
        code, text = untrusted.get("code"), untrusted.get("message")
        words = [str(code)] if isinstance(code, int) and abs(code) < 2**63 else []
        words += [_written(text)] if isinstance(text, str) else []
        return ": ".join(words) or "error"
    if untrusted is not None:
        return "error"
    result = message.get("result")
    return "the tool failed" if isinstance(result, dict) and result.get("isError") is True else None


def identities(untrusted_body: bytes) -> list[Any]:
    """The ids of the requests in a body, as they are: what answers to them must repeat."""
    found = [message.get("id") for message in _messages(untrusted_body) if "method" in message]
    return [identity for identity in found if _identity(identity) is not None]


def ambiguity(untrusted_body: bytes, *, certain: bool) -> str | None:
    """Why two readers could find different messages in a body; None when they could not.

    Args:
        untrusted_body: whole, without content coding.
        certain: the body must be JSON; else one that is not is nobody's message.
    """
    if not untrusted_body.strip():
        return None
    try:
        untrusted = json.loads(untrusted_body.decode(), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return "the body is not JSON that can be read" if certain else None
    items = untrusted if isinstance(untrusted, list) and not isinstance(untrusted, _Pairs) else [untrusted]
    spoken = [item for item in items if isinstance(item, _Pairs) and item.named("method")]
    spoken = [item for item in spoken if item.named("jsonrpc") or any(map(of_mcp, item.named("method")))]
    if spoken and len(items) > MESSAGES:
        return f"a list has more than {MESSAGES} messages"
    return next((why for item in spoken if (why := _unclear(item)) is not None), None)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys."""

    def named(self, name: str) -> list[Any]:
        """The values of keys that some reader takes for this one."""
        return [value for key, value in self if key.casefold() == name]


def _twice(arguments: object) -> str | None:
    """A key that stands twice in one object of the arguments, whatever its case."""
    left = [arguments]
    while left:
        value = left.pop()
        if isinstance(value, _Pairs):
            keys = [key.casefold() for key, _ in value]
            if len(set(keys)) < len(keys):
                return next(key for key in keys if keys.count(key) > 1)
            left += [inner for _, inner in value]
        elif isinstance(value, list):
            left += value
    return None


def _unclear(message: _Pairs) -> str | None:
    params = message.named("params")
    inner = params[0] if len(params) == 1 and isinstance(params[0], _Pairs) else _Pairs()
    for where, names in (
        (message, ("jsonrpc", "id", "method", "params")),
        (inner, ("name", "uri", "arguments")),
    ):
        for name in names:
            values = where.named(name)
            if len(values) > 1 or (values and name not in {key for key, _ in where}):
                return f"the key {name!r} stands in it twice or in another case"
    for value in inner.named("arguments"):
        if (again := _twice(value)) is not None:
            return f"the key {again[:80]!r} stands twice in its arguments, or in two cases"
    if message.named("jsonrpc") != ["2.0"]:
        return "a message of MCP does not say jsonrpc 2.0"
    subjects = [value for name in ("name", "uri") for value in inner.named(name) if isinstance(value, str)]
    methods = [value for value in message.named("method") if isinstance(value, str)]
    if any(len(value) > NAME for value in subjects) or any(len(value) > _TEXT for value in methods):
        return "it has a name that is longer than is looked at"
    return None
