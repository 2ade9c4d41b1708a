"""Entries: the log's dialect of JSON, read strictly, so that every reader reads the same.

Refuses: spaces between tokens, floats, exponents, integers from 2^53 on, minus zero, duplicate names, names with
escapes, raw control characters (C0, DEL, C1), lone surrogates, nesting over 8, over 64 members in an object.

    parse(b'{"seq":0,"time":"2026-11-22T12:00:00.000000Z","mono":5,"run":null,"type":"exec"}').kind   # 'exec'
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 8
MAX_MEMBERS = 64
MAX_LINE = 64 * 1024

Json = None | bool | int | str | list["Json"] | dict[str, "Json"]

_UNIT = r"[0-9a-f]{4}"
_PAIR = r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}"
_SINGLE = r"\\u(?!d[89a-f])" + _UNIT
_STRING = rf'"(?:[^"\\\x00-\x1f\x7f-\x9f]|\\["\\bfnrt]|{_SINGLE}|{_PAIR})*"'
_INTEGER = r"(?:0|-?[1-9][0-9]*)(?![0-9.eE])"
_TOKEN = re.compile(rf"{_STRING}|{_INTEGER}|true|false|null|[\[\]{{}},:]")
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_HEAD = re.compile(
    r'\{"seq":(0|[1-9][0-9]{0,15}),"time":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)",'
    r'"mono":(0|[1-9][0-9]{0,15}),"run":(null|"r-[A-Za-z0-9_-]{1,64}"),"type":"([a-z][a-z0-9_.]{0,63})"(?=[,}])'
)


class EntryError(ValueError):
    """A line that is not of the dialect.

    Attributes:
        why: what is wrong, in words.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        seq: its place, the leaf's index.
        time: RFC 3339, UTC, microseconds.
        mono: microseconds since boot.
        run: the run it is about.
        kind: its type.
        fields: all members, these included.
    """

    seq: int
    time: str
    mono: int
    run: str | None
    kind: str
    fields: dict[str, Json]


def parse(line: bytes) -> Entry:
    """Read one line, without its newline.

    Raises:
        EntryError: the line is not of the dialect.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EntryError("not UTF-8") from error
    head = _HEAD.match(text)
    if head is None:
        raise EntryError("an entry begins with seq, time, mono, run and type")
    seq, time, mono, run, kind = head.groups()
    if max(int(seq), int(mono)) > MAX_INTEGER:
        raise EntryError("an integer from 2^53 on")
    _check_time(time)
    _check_tokens(text)
    fields = _read(text)
    return Entry(int(seq), time, int(mono), None if run == "null" else run[1:-1], kind, fields)


def _check_time(time: str) -> None:
    month, day, hour, minute, second = (int(time[at : at + 2]) for at in (5, 8, 11, 14, 17))
    if not (
        time >= "1970" and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60
    ):
        raise EntryError("not a time")


def _check_tokens(text: str) -> None:
    """Every character must belong to a token written the one way it may be; depth is bounded before parsing."""
    at, depth = 0, 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise EntryError(f"not a token at character {at}")
        first = text[at]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise EntryError("nested too deep")
        elif first in "]}":
            depth -= 1
        elif first in "-0123456789" and (len(token[0]) > 17 or abs(int(token[0])) > MAX_INTEGER):
            raise EntryError("an integer from 2^53 on")
        elif first == '"' and text.startswith(":", token.end()) and not _NAME.fullmatch(token[0][1:-1]):
            raise EntryError("not a name")
        at = token.end()


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EntryError("a name appears twice")
    if len(pairs) > MAX_MEMBERS:
        raise EntryError("too many members")
    return found


def _read(text: str) -> dict[str, Json]:
    try:
        fields = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise EntryError(error.msg) from error
    if not isinstance(fields, dict):
        raise EntryError("not an object")
    return fields
