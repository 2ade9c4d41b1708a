r"""One line of MCP over standard input and output: a JSON-RPC 2.0 message, read so that nobody can read another.

Pure. What goes on is one line of ASCII, whatever line ends and letters were in it: a reader that takes U+2028 or a
carriage return for a line's end finds the same one message. Refuses a key that stands twice in an object, anywhere; a
list of messages; ids that are neither text nor a whole number; values deeper than `DEPTH`; lines over `LINE` bytes.

    parse(b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}')      # Spoken(kind='request', id=1, line=b'{…}\\n')
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeGuard

LINE = 1 << 20
"""Bytes of a line."""
DEPTH = 64
"""Objects and lists within one another."""
ID = 128
"""Characters of an id that is text."""
UNREADABLE, UNFIT = -32700, -32600
"""Codes of JSON-RPC 2.0 §5.1: no JSON; JSON that is no message."""
CANCELLED = "notifications/cancelled"
"""What takes a request back (MCP, cancellation)."""
_WHOLE = 1 << 53
_KEYS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_SPACES = re.compile("[\\t\\r]")
_LETTERS = re.compile("[^\\x00-\\x7e]")

Identity = str | int


class SpokenError(Exception):
    """A line is no message.

    Attributes:
        reason: why.
        code: of the error that answers it.
        id: of the request that it seems to be; None when that is not known.
    """

    def __init__(self, reason: str, code: int = UNFIT, identity: Identity | None = None) -> None:
        super().__init__(reason)
        self.reason, self.code, self.id = reason, code, identity


@dataclass(frozen=True, slots=True)
class Spoken:
    """One message.

    Attributes:
        kind: what it is.
        id: of a request, or of the request that is answered; None: of a notification, or an answer to nothing known.
        method: empty in an answer.
        line: as it goes on.
        taken_back: id of the request that a `notifications/cancelled` takes back; None: it names none, or of all else.
    """

    kind: Literal["request", "notification", "answer"]
    id: Identity | None
    method: str
    line: bytes
    taken_back: Identity | None = None

    @property
    def message(self) -> dict[str, Any]:
        """What the line says, read again: it takes up to 24 times as much memory, and many messages may wait."""
        found: dict[str, Any] = json.loads(self.line)
        return found

    @property
    def params(self) -> dict[str, Any]:
        """What a request or a notification says, read again; empty where that is nothing."""
        found: dict[str, Any] = self.message.get("params", {})
        return found


def parse(untrusted_line: bytes) -> Spoken:
    """The message in a line.

    Raises:
        SpokenError: it is none.
    """
    if len(untrusted_line) > LINE:
        raise SpokenError(f"a line of more than {LINE} bytes")
    try:
        text = untrusted_line.decode()
        message = json.loads(text, object_pairs_hook=_once, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _TwiceError) else "a line that is not JSON"
        raise SpokenError(reason, UNFIT if isinstance(error, _TwiceError) else UNREADABLE) from None
    if isinstance(message, list):
        raise SpokenError("a list of messages; send each on a line of its own")
    if not isinstance(message, dict):
        raise SpokenError("a line that is no object")
    identity = message.get("id")
    known = identity if _is_id(identity) else None
    _check(message, known)
    kind: Literal["request", "notification", "answer"] = "answer"
    if "method" in message:
        kind = "request" if "id" in message else "notification"
    line = _one_line(text)
    if len(line) > LINE:
        raise SpokenError(f"a line of more than {LINE} bytes as ASCII", identity=known)
    method = message.get("method", "")
    untrusted = message.get("params", {}).get("requestId") if method == CANCELLED else None
    return Spoken(kind, known, method, line, untrusted if _is_id(untrusted) else None)


def failure(code: int, reason: str, identity: Identity | None) -> bytes:
    """The line that answers a request with an error."""
    error = {"code": code, "message": reason}
    return json.dumps({"jsonrpc": "2.0", "id": identity, "error": error}).encode() + b"\n"


def _check(message: dict[str, Any], known: Identity | None) -> None:
    def no(reason: str) -> NoReturn:
        raise SpokenError(reason, identity=known)

    if message.get("jsonrpc") != "2.0":
        no("a message that does not say jsonrpc 2.0")
    if stranger := next((key for key in message if key not in _KEYS), None):
        no(f"a message with the key {stranger[:40]!r}")
    answers = [name for name in ("result", "error") if name in message]
    if "method" in message:
        if answers or not isinstance(message["method"], str):
            no("a message that is both a request and an answer" if answers else "a method that is no text")
        if "params" in message and not isinstance(message["params"], dict):
            no("params that are no object")
        if "id" in message and known is None:
            no(f"an id that is neither text of at most {ID} characters nor a whole number")
    elif len(answers) != 1 or "params" in message:
        no("a message that is neither a request nor an answer")
    elif known is None and not ("error" in message and message.get("id", 0) is None):
        no("an answer without an id")
    if _depth(message) > DEPTH:
        no(f"a message deeper than {DEPTH}")


def _is_id(untrusted: object) -> TypeGuard[Identity]:
    if isinstance(untrusted, str):
        return len(untrusted) <= ID and untrusted.isprintable() and untrusted.isascii()
    return isinstance(untrusted, int) and not isinstance(untrusted, bool) and abs(untrusted) < _WHOLE


def _depth(value: object) -> int:
    level, inside = 0, [value]
    while inside:
        level += 1
        if level > DEPTH:
            break
        deeper: list[object] = []
        for one in inside:
            if isinstance(one, dict):
                deeper += [inner for inner in one.values() if isinstance(inner, dict | list)]
            elif isinstance(one, list):
                deeper += [inner for inner in one if isinstance(inner, dict | list)]
        inside = deeper
    return level


class _TwiceError(ValueError):
    """A key stands twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"the key {twice[:40]!r} stands twice in an object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1] if match[0] != "\x7f" else "\\u007f"


def _one_line(text: str) -> bytes:
    # Outside of its texts JSON is ASCII, and in them no control character stands bare: what is replaced is spaces
    # between values and letters within texts. Numbers stay as they were written.
    spaced = _SPACES.sub(" ", text).strip()
    return (spaced if spaced.isascii() else _LETTERS.sub(_escaped, spaced)).encode() + b"\n"
