"""Methods that a request's body asks a server for, beside the one in its first line: the field `_method` of a form.

Pure. Rails, Laravel and others take a POST whose form (or, some, whose JSON) has that field for a DELETE. Rack takes a
body without a type for a form too, and any multipart for an upload, or for a form where it has no boundary. Refuses, by
saying so, what cannot be looked at: a form longer than a decision may look at, or under a content coding; JSON under
one that is not undone here (gzip and deflate are, as far as `UNPACKED`); a body of two of these types at once, or in a
charset in which letters are other bytes; JSON with the name in it that is not read here, for others read comments, deep
nesting, long numbers. What is too long and has a way to be looked at as it passes is: names of the parts of a multipart
(`Uploads`), names in JSON (`Names`), those in a body without a type (`Fields`).

    asked("application/x-www-form-urlencoded", b"_method=DELETE&a=1")      # ("DELETE",)
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any
from urllib.parse import unquote_to_bytes

FORM = "application/x-www-form-urlencoded"
MOST = 8
"""Such fields of one body; more are too many."""
UNPACKED = 8 << 20
"""Bytes of JSON that a content coding may unpack to."""
READ = 1 << 20
"""Bytes of unpacked JSON that are read; in more the names are looked for."""
# What a type has in it somewhere: Laravel takes `text/plain; a=/json` for JSON, and some join two headers.
_SAID = {
    "form": re.compile(re.escape(FORM), re.IGNORECASE),
    "multipart": re.compile(r"multipart/", re.IGNORECASE),
    "json": re.compile(r"[/+]json", re.IGNORECASE),
}
_BOUNDARY = re.compile(r"multipart/.*boundary=\"?[^\";,]", re.IGNORECASE)
_SPOKEN = re.compile(r"\s*application/(?:connect|grpc|grpc-web)\+json\s*(?:;|\Z)", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=[\s\"']*([^\s\"';,]*)", re.IGNORECASE)
_ALIKE = re.compile(r"|utf-?8|(?:us-)?ascii|iso-8859-\d+|latin-?1|windows-125\d", re.IGNORECASE)
"""Charsets in which a letter of ASCII is one byte, its own, and nothing else is."""
_FIELD = b"_method"
_DISPOSITION = re.compile(
    # Not at the beginning of a line: Rack finds `X-Content-Disposition:` too, and takes a `Content-ID` for a name.
    rb"content-(?:disposition|(?P<id>id)):(?P<said>[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)",
    re.IGNORECASE,
)
_BEHIND = re.compile(rb"\r?\n(?:[^\r\n]+\r?\n)*\r?\n")
"""From a header of a part to its content."""
_NAME = re.compile(
    rb'(?<![\w*-])name\*?[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"?|(?P<plain>[^\s;"]+))', re.IGNORECASE
)
_LINE = re.compile(rb"[^\r\n]*")
_TOKEN = len("content-disposition:")
_FOLD = b"\r\n"
_HEAD = 8192
"""Bytes of the longest line that says a part's name, where they pass in pieces."""


class UnclearError(ValueError):
    """The body cannot be looked at; the text is one clause."""


def kind_of(content_type: str) -> str | None:
    """What a body of this type may be read as, where that may ask for a method, else None.

    `form`, `multipart`, `json`; `several`: more than one of these; `untyped`: no type, so some take it for a form;
    `spoken`: JSON that is spoken while it is answered, so that nobody can wait for all of it.
    """
    if re.match(r"\s*(?:[;,]|\Z)", content_type):
        return "several" if any(said.search(content_type) for said in _SAID.values()) else "untyped"
    if _SPOKEN.match(content_type):
        kinds = ["spoken", *(kind for kind in ("form", "multipart") if _SAID[kind].search(content_type))]
    else:
        kinds = [kind for kind, said in _SAID.items() if said.search(content_type)]
    if kinds == ["multipart"] and _BOUNDARY.search(content_type) is None:
        return "several" if "boundary" in content_type.lower() else "form"
    return "several" if len(kinds) > 1 else kinds[0] if kinds else None


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
    if kind == "several":
        raise UnclearError(
            "a body of more than one type may have a field _method that only some servers read"
        )
    if not all(_ALIKE.fullmatch(charset) for charset in _CHARSET.findall(content_type)):
        raise UnclearError("a body that is not UTF-8 may have a field _method that nobody can look at")
    if kind in {"json", "spoken"}:
        return _methods(_asked_in_json(untrusted_body, coding if coded else "", spoken=kind == "spoken"))
    if coded:
        raise UnclearError("a form under a content coding may have a field _method that nobody can look at")
    if untrusted_body is None and kind == "form":
        raise UnclearError("a form of this length may have a field _method that nobody has looked at")
    if untrusted_body is None:
        return ()
    return _methods(_of_parts(untrusted_body) if kind == "multipart" else _of_form(untrusted_body))


def _methods(found: list[str]) -> tuple[str, ...]:
    methods = tuple(dict.fromkeys(value.strip().upper() for value in found if value.strip()))
    if len(methods) > MOST:
        raise UnclearError("it has too many fields _method")
    return methods


def _asked_in_json(untrusted_body: bytes | None, coding: str, *, spoken: bool) -> list[str]:
    if coding and spoken:
        raise UnclearError("messages under a content coding may have a field _method that nobody can look at")
    if coding:
        untrusted_body = _unpacked(coding, untrusted_body)
    if untrusted_body is None:
        return []
    if not spoken and len(untrusted_body) <= READ:
        return _of_json(untrusted_body)
    if Names(framed=spoken).feed(untrusted_body):
        raise UnclearError("JSON of this length, or in pieces, has a field _method or is not UTF-8")
    return []


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
    values = (pair["value"].replace(b"+", b" ") for pair in _PAIR.finditer(body))
    return [unquote_to_bytes(value).decode("utf-8", "replace") for value in values]


def _of_parts(body: bytes) -> list[str]:
    found: list[str] = []
    for head in _DISPOSITION.finditer(body):
        if not _names_it(head):
            continue
        behind = _BEHIND.match(body, head.end())
        if behind is None:
            raise UnclearError("a part _method of it has no end")
        if len(found) > MOST:
            raise UnclearError("it has too many fields _method")
        value = _LINE.match(body, behind.end())
        assert value is not None
        found.append(value[0].decode("utf-8", "replace"))
    return found


def _names_it(head: re.Match[bytes]) -> bool:
    said = head["said"]
    if head["id"] is not None:
        return is_field(said.strip())
    names = (name["quoted"] if name["plain"] is None else name["plain"] for name in _NAME.finditer(said))
    return any(is_field(re.sub(rb"\\(.)", rb"\1", name).rpartition(b"'")[2]) for name in names)


def _of_json(body: bytes) -> list[str]:
    if b"\0" in body:  # UTF-16 or UTF-32, which some servers find out by themselves
        raise UnclearError("JSON that is not UTF-8 may have a field _method that nobody can look at")
    if b"ethod" not in body.lower() and b"\\u" not in body:
        return []
    try:
        untrusted = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        if _WRITTEN.search(body) is None:
            return []
        raise UnclearError(
            "JSON that cannot be read here has a name _method, and others may read it"
        ) from None
    if not isinstance(untrusted, _Pairs):
        return []
    return [str(value) for name, value in untrusted if is_field(name.encode("utf-8", "replace"))]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys."""


def _spelled(character: str) -> str:
    """One letter as JSON may have it, in either case, plain or escaped."""
    forms = {character.lower(), character.upper()}
    return "(?:" + "|".join(f"{re.escape(form)}|\\\\u00{ord(form):02x}" for form in sorted(forms)) + ")"


_FIELDS = f"(?:{_spelled('_')}|{_spelled('.')}|{_spelled('[')})" + "".join(map(_spelled, "method"))
_NAMED = re.compile(rf'(?:"| |\\u0020){_FIELDS}(?:"|\\u0000)'.encode(), re.IGNORECASE)
_WRITTEN = re.compile(rf"(?:(?<!\w)|\\u0020){_FIELDS}(?!\w)".encode(), re.IGNORECASE)
"""The name as those may have it who read more than JSON: in other quotes, in none."""
_LONGEST = len(r"\u0020") + len("_method") * len(r"\u0000") + len(r"\u0000")


class Names:
    """The names in JSON that passes in pieces: whether one may be the field, however deep it lies.

    A text that is that word alone counts too: what a string is for is not known from a piece. One within a longer text,
    where its quotes are escaped, does not.

    Args:
        framed: lengths stand between the messages, so a NUL says nothing; else it says that this is not UTF-8.
    """

    def __init__(self, *, framed: bool = False) -> None:
        self._framed = framed
        self._held = b""

    def feed(self, untrusted_data: bytes) -> bool:
        """Whether one is whole by now, or what came is in no charset that is looked at."""
        if not self._framed and b"\0" in untrusted_data:
            return True
        data = self._held + untrusted_data
        self._held = data[-_LONGEST:]
        return _NAMED.search(data) is not None


class Uploads:
    """The names of the parts of a multipart that passes in pieces."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, untrusted_data: bytes) -> bool:
        """Whether a part that has its first line by now is the field, or has one that is too long."""
        data = self._held + untrusted_data
        begun = max(0, len(data) - _TOKEN)
        for head in _DISPOSITION.finditer(data):
            if len(data) - head.end("said") <= len(_FOLD):
                begun = min(begun, head.start())  # its line may go on
            elif _names_it(head):
                return True
        self._held = data[begun:]
        return len(self._held) > _HEAD


def _encoded(character: str) -> str:
    """One letter as a form may have it, in either case."""
    forms = {character.lower(), character.upper()}
    return "(?:" + "|".join(f"{re.escape(form)}|%{ord(form):02x}" for form in sorted(forms)) + ")"


_KEY = f"(?:{'|'.join(map(_encoded, '_.['))})" + "".join(map(_encoded, "method"))
_PAIR = re.compile(
    rf"(?:\A|(?<=[&;]))(?:[ +]|%20)*{_KEY}(?:(?:\0|%00)[^&;=]*)?=(?P<value>[^&;]*)".encode(), re.IGNORECASE
)
_BEGUN = re.compile(rf"(?:[&; +]|%20){_KEY}(?:=|\0|%00)".encode(), re.IGNORECASE)
_WIDEST = len("%20") + len("%5f") * len("_method") + len("%00")


class Fields:
    """The names of a form that passes in pieces, in a body that does not say that it is one."""

    def __init__(self) -> None:
        self._held = b"&"

    def feed(self, untrusted_data: bytes) -> bool:
        """Whether one of them is the field."""
        data = self._held + untrusted_data
        self._held = data[-_WIDEST:]
        return _BEGUN.search(data) is not None
