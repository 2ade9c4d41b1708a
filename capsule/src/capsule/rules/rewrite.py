"""Edits of a message: headers, query, values of a JSON body, and redaction of patterns in bodies and event streams.

Pure functions from what was sent to what is sent on. What they refuse: names and values that would end a header early,
headers that frame the message or say where it goes (those were decided on), and to guess about a body that is not JSON.

    edit_headers([Edit("remove_header", "x-client-id")], [("x-client-id", "7")], "request")   # []
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from capsule.errors import CapsuleError
from capsule.policy.fields import gateway_name

Kind = Literal[
    "remove_header", "set_header", "remove_query", "set_query", "remove_json", "set_json", "redact"
]
Where = Literal["request", "response"]
Lines = Literal["text", "json", "events"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

KINDS: Final = (
    "remove_header",
    "set_header",
    "remove_query",
    "set_query",
    "remove_json",
    "set_json",
    "redact",
)
# RFC 9110, 5.6.2: token.
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# They frame the message, name its destination or belong to one hop (RFC 9110, 7.6.1).
FIXED_HEADERS: Final = frozenset({
    "host", "content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "te", "trailer",
    "upgrade", "proxy-authorization", "proxy-connection", "proxy-authenticate", "expect",
})  # fmt: skip
MAX_LINE: Final = 1024 * 1024
_STEP = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_-]*)|\[(0|[1-9][0-9]{0,6})\]|\[(\*)\]|\["([^"\\]*)"\]""")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
EVERY: Final = -1
# Numbers keep their digits: 1.10 stays 1.10, and a long one does not become a float.
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class RewriteError(CapsuleError):
    """An edit cannot be made as asked, so the message must not go on."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit.

    Attributes:
        kind: what is done.
        name: the header, the query's key, the JSON path, or the pattern.
        value: what is put there; None for removals.
        where: in the request or in its response.
    """

    kind: Kind
    name: str
    value: Json = None
    where: Where = "request"


def problem_of(edit: Edit) -> str | None:
    """Why the edit cannot be made, or None."""
    if edit.kind in {"remove_header", "set_header"}:
        if not TOKEN.fullmatch(edit.name):
            return f"{edit.name[:80]!r} is not a header's name"
        if gateway_name(edit.name) in FIXED_HEADERS:  # `edit_headers` takes all of these for one
            return f"the header {edit.name} frames the message or says where it goes, and stays"
        if isinstance(edit.value, str) and not _fits_a_header(edit.value):
            return "a header's value may not hold line breaks, control characters or blanks at its ends"
    elif edit.kind in {"remove_json", "set_json"}:
        if json_path(edit.name) is None:
            return f'{edit.name[:80]!r} is not a path like $.a.b[0]["c d"][*]'
    elif edit.kind == "redact":
        return _pattern_problem(edit.name)
    return None


def _fits_a_header(value: str) -> bool:
    # RFC 9110, 5.5: field-value, without obs-text.
    return value == value.strip() and all(char == "\t" or " " <= char <= "~" for char in value)


def json_path(text: str) -> tuple[str | int, ...] | None:
    """`$.a[0]["b c"][*]` → ('a', 0, 'b c', EVERY); None when it is no such path. `$` alone is refused."""
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            return None
        name, index, every, quoted = match.groups()
        steps.append(
            EVERY if every else int(index) if index is not None else name if name is not None else quoted
        )
        at = match.end()
    return tuple(steps) if text.startswith("$") and steps else None


def edit_headers(
    edits: Iterable[Edit], headers: Sequence[tuple[str, str]], where: Where
) -> list[tuple[str, str]]:
    """The headers after the edits. A header that is set stands once, where its first one stood.

    It is every one that gateways take for it: `x_client_id` goes with `x-client-id`.
    """
    found = list(headers)
    for edit in edits:
        if edit.where != where or edit.kind not in {"remove_header", "set_header"}:
            continue
        name = gateway_name(edit.name)
        at = next((index for index, (own, _) in enumerate(found) if gateway_name(own) == name), len(found))
        kept = [(own, value) for own, value in found if gateway_name(own) != name]
        if edit.kind == "set_header":
            kept.insert(min(at, len(kept)), (edit.name, str(edit.value)))
        found = kept
    return found


def edit_query(edits: Iterable[Edit], query: str) -> str:
    """The query after the edits; what no edit names stays as it was sent, byte for byte."""
    parts = query.split("&") if query else []
    for edit in edits:
        if edit.kind not in {"remove_query", "set_query"}:
            continue
        own = [index for index, part in enumerate(parts) if _decoded_key(part) == edit.name]
        kept = [part for index, part in enumerate(parts) if index not in own]
        if edit.kind == "set_query":
            kept.insert(own[0] if own else len(kept), f"{_quoted(edit.name)}={_quoted(str(edit.value))}")
        parts = kept
    return "&".join(parts)


def _decoded_key(part: str) -> str:
    """The key as servers read it: WHATWG URL, application/x-www-form-urlencoded parsing."""
    raw = part.partition("=")[0].replace("+", " ").encode("utf-8", "surrogatepass")
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw).decode("utf-8", "replace")


def _quoted(text: str) -> str:
    # RFC 3986, 2.3: unreserved characters stand for themselves.
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-._~") else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


def edit_body(edits: Iterable[Edit], body: bytes, where: Where) -> bytes:
    """The whole body after the edits, in their order.

    Args:
        edits: of one decision.
        body: all of it, without content coding.
        where: which side's body it is.

    Raises:
        RewriteError: a JSON edit, and the body is not JSON.
    """
    for edit in edits:
        if edit.where != where:
            continue
        if edit.kind == "redact":
            body = _redactor(edit.name, str(edit.value))(body)
        elif edit.kind in {"remove_json", "set_json"}:
            body = _edit_json(edit, body)
    return body


def changes_body(edits: Iterable[Edit], where: Where) -> bool:
    """Whether the body of that side is needed whole: some edit changes JSON in it."""
    return any(edit.where == where and edit.kind in {"remove_json", "set_json"} for edit in edits)


def redacts(edits: Iterable[Edit], where: Where) -> bool:
    """Whether some edit redacts in that side's body."""
    return any(edit.where == where and edit.kind == "redact" for edit in edits)


def edits_body(edits: Iterable[Edit], where: Where) -> bool:
    """Whether some edit is of that side's body, in whatever way."""
    return changes_body(edits, where) or redacts(edits, where)


def _edit_json(edit: Edit, body: bytes) -> bytes:
    if not body:
        return body
    steps = json_path(edit.name)
    assert steps is not None  # problem_of refused it
    try:
        document = _DECODER.decode(body)
        unclear = (
            _unclear(json.loads(body, object_pairs_hook=_Pairs), steps) if edit.where == "request" else None
        )
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise RewriteError(
            f"the body is not JSON ({type(error).__name__}), and a rule edits {edit.name} in it",
            next_step="let the rule ask for http.content_type",
        ) from None
    if unclear is not None:
        raise RewriteError(
            f"the key {unclear[:80]!r} stands in the body twice or in another case than a rule says that edits"
            f" {edit.name}: servers may take either",
            next_step="write each key once, and as the rule writes it",
        )
    return _ENCODER.encode(document) if _apply(document, steps, edit) else body


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys."""


def _unclear(node: Any, steps: tuple[str | int, ...]) -> str | None:
    """A key on the path that some readers would take for another one, or of two take the other; None: there is none."""
    if not steps:
        return None
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        if not isinstance(node, _Pairs):
            return None
        named = [(key, value) for key, value in node if key.casefold() == step.casefold()]
        odd = next((key for key, _ in named if len(named) > 1 or key != step), None)
        return odd if odd is not None or not named else _unclear(named[0][1], rest)
    if isinstance(node, _Pairs) or not isinstance(node, list):
        return None
    inner = node if step == EVERY else node[step : step + 1]
    return next((odd for item in inner if (odd := _unclear(item, rest)) is not None), None)


def _apply(node: Any, steps: tuple[str | int, ...], edit: Edit) -> bool:
    """Edit below the node; whether anything changed. A path that leads nowhere changes nothing."""
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        if not isinstance(node, dict) or (step not in node and (rest or edit.kind == "remove_json")):
            return False
        keys: list[Any] = [step]
    elif not isinstance(node, list):
        return False
    else:
        keys = list(range(len(node)))[::-1] if step == EVERY else [step] if step < len(node) else []
    changed = False
    for key in keys:
        if rest:
            changed = _apply(node[key], rest, edit) or changed
        elif edit.kind == "remove_json":
            del node[key]
            changed = True
        else:
            node[key] = edit.value
            changed = True
    return changed


@functools.cache
def re2() -> Any:
    """The package google-re2.

    Raises:
        RewriteError: it is not installed.
    """
    try:
        import re2 as package
    except ImportError:
        raise RewriteError(
            "patterns need the package google-re2, which is not installed",
            next_step="install capsule with its extra: capsule[egress]",
        ) from None
    return package


def _pattern_problem(pattern: str) -> str | None:
    engine = re2()
    options = engine.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        compiled = engine.compile(pattern, options)
    except engine.error as error:
        text = error.args[0] if error.args else error
        return f"the pattern is not RE2: {text.decode(errors='replace') if isinstance(text, bytes) else text}"
    return "the pattern matches the empty text" if compiled.search("") else None


@functools.lru_cache(maxsize=256)
def _redactor(pattern: str, replacement: str) -> Callable[[bytes], bytes]:
    compiled = re2().compile(pattern.encode())
    put = replacement.encode()

    def redact(data: bytes) -> bytes:
        return bytes(compiled.sub(lambda _: put, data))

    return redact


class LineRedactor:
    r"""Edits a streamed body line by line: server-sent events, lines of JSON, plain text.

    A piece that has no line end yet is held back, at most 1 MiB, so that a pattern cannot slip through between two
    pieces; a pattern that spans lines is not found here. Edits of JSON are made in each `data:` line of server-sent
    events, or in each line; one that looks like JSON and is none ends the stream.

        redactor = LineRedactor(edits, "response")
        redactor.feed(b"data: 42")         # b""
        redactor.feed(b"42\n")             # b"data: [card]\n"
        redactor.end()                     # b""
    """

    def __init__(self, edits: Iterable[Edit], where: Where, *, lines: Lines = "text") -> None:
        self._edits = tuple(edit for edit in edits if edit.where == where)
        self._where: Where = where
        self._redactors = [
            _redactor(edit.name, str(edit.value)) for edit in self._edits if edit.kind == "redact"
        ]
        self._lines = lines if changes_body(self._edits, where) else "text"
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may go on now.

        Raises:
            RewriteError: a line is longer than 1 MiB; the stream must end here.
        """
        whole, end, rest = (self._held + data).rpartition(b"\n")
        if len(rest) > MAX_LINE:
            raise RewriteError(
                f"a line of more than {MAX_LINE} bytes in a stream that a rule redacts",
                next_step="take the rule off this host, or ask for another format",
            )
        self._held = rest
        return self._redact(whole + end)

    def end(self) -> bytes:
        """The rest, when the stream is over."""
        held, self._held = self._held, b""
        return self._redact(held)

    def _redact(self, data: bytes) -> bytes:
        if not data:
            return data
        if self._lines != "text":
            return b"".join(self._edited(line) for line in data.splitlines(keepends=True))
        for redact in self._redactors:
            data = redact(data)
        return data

    def _edited(self, line: bytes) -> bytes:
        text = line.rstrip(b"\r\n")
        end = line[len(text) :]
        head = b""
        if self._lines == "events":
            field, colon, rest = text.partition(b":")
            if field == b"data":
                head, text = field + colon + rest[: len(rest) - len(rest.lstrip(b" "))], rest.lstrip(b" ")
        if text[:1] in (b"{", b"[") and text != b"[DONE]":
            return head + edit_body(self._edits, text, self._where) + end
        for redact in self._redactors:
            text = redact(text)
        return head + text + end
