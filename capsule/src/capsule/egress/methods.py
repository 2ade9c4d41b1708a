"""Methods that a request's body asks a server for, beside the one in its first line: the field `_method` of a form.

Pure. Rails, Laravel and others take a POST whose form (or, some, whose JSON) has that field for a DELETE. Refuses, by
saying so, what cannot be looked at: a form longer than a decision may look at, or under a content coding; JSON under
one that is not undone here (gzip and deflate are, as far as `UNPACKED`). What is too long and has a way to be looked at
as it passes is: names of the parts of a `multipart/form-data` (`Uploads`), names in JSON (`Names`).

    asked("application/x-www-form-urlencoded", b"_method=DELETE&a=1")      # ("DELETE",)
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any
from urllib.parse import unquote_to_bytes

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
MOST = 8
"""Such fields of one body; more are too many."""
UNPACKED = 8 << 20
"""Bytes of JSON that a content coding may unpack to."""
_FIELD = b"_method"
_DISPOSITION = re.compile(
    rb"(?:\A|\n)content-disposition:(?P<said>[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)"
    rb"(?P<behind>\r?\n(?:[^\r\n]+\r?\n)*\r?\n)?",
    re.IGNORECASE,
)
_NAME = re.compile(
    rb'(?<![\w*-])name\*?[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"?|(?P<plain>[^\s;"]+))', re.IGNORECASE
)
_LINE = re.compile(rb"[^\r\n]*")
_TOKEN = len("\ncontent-disposition:")
_FOLD = b"\r\n"
_HEAD = 8192
"""Bytes of the longest line that says a part's name, where they pass in pieces."""


class UnclearError(ValueError):
    """The body cannot be looked at; the text is one clause."""


def kind_of(content_type: str) -> str | None:
    """`form`, `multipart` or `json` when a body of this type may ask for a method, else None."""
    media = content_type.partition(";")[0].strip().lower()
    if media == FORM:
        return "form"
    if media == MULTIPART:
        return "multipart"
    if media.startswith("application/connect+"):
        return None  # spoken while it is answered
    return "json" if media == "application/json" or media.endswith("+json") else None


def is_field(untrusted_name: bytes) -> bool:
    """Whether a parameter's name, decoded, is the field to some server; PHP takes ` `, `.` and `[` for `_`."""
    name = untrusted_name.partition(b"\0")[0].lstrip(b" ").lower()
    return len(name) == len(_FIELD) and name[1:] == _FIELD[1:] and name[:1] in b"_.["


def asked(content_type: str, untrusted_body: bytes | None, coding: str = "") -> tuple[str, ...]:
    """The methods that a body asks for, in capitals.

    Args:
        content_type: as the request says.
        untrusted_body: whole; None: it is too long.
        coding: the content coding.

    Raises:
        UnclearError: it cannot be looked at.
    """
    kind = kind_of(content_type)
    coding = coding.strip().lower()
    coded = coding not in {"", "identity"}
    if kind is None:
        return ()
    if kind == "json" and coded:
        untrusted_body = _unpacked(coding, untrusted_body)
    elif coded:
        raise UnclearError("a form under a content coding may have a field _method that nobody can look at")
    if untrusted_body is None and kind == "form":
        raise UnclearError("a form of this length may have a field _method that nobody has looked at")
    if untrusted_body is None:
        return ()
    if kind == "form":
        found = _of_form(untrusted_body)
    elif kind == "multipart":
        found = _of_parts(untrusted_body)
    else:
        found = _of_json(untrusted_body)
    methods = tuple(dict.fromkeys(value.strip().upper() for value in found if value.strip()))
    if len(methods) > MOST:
        raise UnclearError("it has too many fields _method")
    return methods


def _unpacked(coding: str, untrusted_body: bytes | None) -> bytes:
    """JSON without its content coding (RFC 9110 §8.4.1; `deflate` also without its wrapping, as some send it)."""
    wrappings = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}.get(coding, ())
    for wrapping in wrappings if untrusted_body is not None else ():
        unpacking = zlib.decompressobj(wrapping)
        try:
            found = unpacking.decompress(untrusted_body or b"", UNPACKED)
        except zlib.error:
            continue
        # What follows, a second member say, some servers read and others do not.
        if unpacking.eof and not unpacking.unused_data:
            return found
    raise UnclearError(
        "JSON under a content coding may have a field _method that nobody can look at, unless it is whole, of gzip or "
        f"deflate, and at most {UNPACKED >> 20} MiB"
    )


def _of_form(body: bytes) -> list[str]:
    found = []
    for part in re.split(rb"[&;]", body):
        name, _, value = part.partition(b"=")
        if is_field(unquote_to_bytes(name.replace(b"+", b" "))):
            found.append(unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8", "replace"))
    return found


def _of_parts(body: bytes) -> list[str]:
    found = []
    for head in _DISPOSITION.finditer(body):
        if not _names_it(head["said"]):
            continue
        if head["behind"] is None:
            raise UnclearError("a part _method of it has no end")
        value = _LINE.match(body, head.end())
        assert value is not None
        found.append(value[0].decode("utf-8", "replace"))
    return found


def _names_it(said: bytes) -> bool:
    names = (name["quoted"] if name["plain"] is None else name["plain"] for name in _NAME.finditer(said))
    return any(is_field(re.sub(rb"\\(.)", rb"\1", name).rpartition(b"'")[2]) for name in names)


def _of_json(body: bytes) -> list[str]:
    if b"ethod" not in body.lower() and b"\\u" not in body:
        return []
    try:
        untrusted = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return []  # no server reads a field there
    if not isinstance(untrusted, _Pairs):
        return []
    return [str(value) for name, value in untrusted if is_field(name.encode("utf-8", "replace"))]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys."""


def _spelled(character: str) -> str:
    """One letter as JSON may have it, in either case, plain or escaped."""
    forms = {character.lower(), character.upper()}
    return "(?:" + "|".join(f"{re.escape(form)}|\\\\u00{ord(form):02x}" for form in sorted(forms)) + ")"


_NAMED = re.compile(
    (
        rf'(?:"| |\\u0020)(?:{_spelled("_")}|{_spelled(".")}|{_spelled("[")})'
        + "".join(map(_spelled, "method"))
        + r'(?:"|\\u0000)'
    ).encode(),
    re.IGNORECASE,
)
_LONGEST = len(r"\u0020") + len("_method") * len(r"\u0000") + len(r"\u0000")


class Names:
    """The names in JSON that passes in pieces: whether one may be the field, however deep it lies.

    A text that is that word alone counts too: what a string is for is not known from a piece. One within a longer text,
    where its quotes are escaped, does not.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, untrusted_data: bytes) -> bool:
        """Whether one is whole by now."""
        data = self._held + untrusted_data
        self._held = data[-_LONGEST:]
        return _NAMED.search(data) is not None


class Uploads:
    """The names of the parts of a `multipart/form-data` that passes in pieces."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, untrusted_data: bytes) -> bool:
        """Whether a part that has its first line by now is the field, or has one that is too long."""
        data = self._held + untrusted_data
        begun = max(0, len(data) - _TOKEN)
        for head in _DISPOSITION.finditer(data):
            if len(data) - head.end("said") <= len(_FOLD):
                begun = min(begun, head.start())  # its line may go on
            elif _names_it(head["said"]):
                return True
        self._held = data[begun:]
        return len(self._held) > _HEAD
