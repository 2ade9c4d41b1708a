"""Methods that a request's body asks a server for, beside the one in its first line: the field `_method` of a form.

Pure. Rails, Laravel and others take a POST whose form (or, some, whose JSON) has that field for a DELETE. Refuses, by
saying so, a form that cannot be looked at: longer than a decision may look at, under a content coding. Of a
`multipart/form-data` that is too long `Uploads` looks at the names of its parts as they pass. JSON that is too long, or
under a content coding, is not looked at.

    asked("application/x-www-form-urlencoded", b"_method=DELETE&a=1")      # ("DELETE",)
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote_to_bytes

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
MOST = 8
"""Such fields of one body; more are too many."""
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
        UnclearError: a form that cannot be looked at.
    """
    kind = kind_of(content_type)
    coded = coding.strip().lower() not in {"", "identity"}
    if kind is None or (kind == "json" and coded):
        return ()
    if coded:
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
