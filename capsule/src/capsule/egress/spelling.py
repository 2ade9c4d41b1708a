r"""One text in every mix of escapes: where it stands in bytes, and where it may begin at their end.

Pure. A character is read as it is, percent-encoded (also `%u006d`, and `%` encoded up to three times more), with JSON's
and Python's escapes (`\u006d`, `\x6d`, `\/`, the backslash up to eight times; a backslash itself twice, four or eight
times) or as a character reference of HTML (`&#109;`, `&#x6d;`, `&amp;`); each on its own, hexadecimal digits in either
case. Refuses nothing.

    text = Text("my-token")
    text.ends(b"%6Dy\\u002dtoken.", 0)      # 15: it stands there, and ends there
    text.opens(b"%6Dy\\u0", 0)              # True: further bytes may make it so
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Iterable
from functools import cache

LEADS = b"%\\&"
"""What an escape begins with."""
ALPHABET = b"%\\&#;xXuU0123456789abcdefABCDEF"
"""The bytes of escapes, without the names of HTML."""
LONGEST = 32
"""Bytes of the longest escape, for each byte of a character."""
_SLASHED = "\"'/&<>"
# A backslash in a string of JSON, in such a string within one, and once more.
_DOUBLED = tuple(b"\\" * count for count in (2, 4, 8))
_NAMES: dict[str, list[str]] = {}
for _name, _text in html.entities.html5.items():
    if len(_text) == 1 and ord(_text) < 0x80:
        _NAMES.setdefault(_text, []).append(_name)
# What may become an escape when more bytes come; of a character of several bytes roughly.
_BEGUN = re.compile(
    rb"(?:%(?:25){0,3}(?:2|[uU][0-9A-Fa-f]{0,3}|[0-9A-Fa-f])?"
    rb"|\\{1,8}(?:[uU][0-9A-Fa-f]{0,3}|[xX][0-9A-Fa-f]?)?"
    rb"|&(?:amp;){0,3}(?:#[0-9]{0,12}|#[xX][0-9A-Fa-f]{0,12}|[A-Za-z]{0,24}))\Z"
)
_BEGUN_WIDE = re.compile(
    rb"(?:%[0-9A-Fa-f%uU]{0,63}|\\[\\uUxX0-9A-Fa-f]{0,63}|&(?:amp;){0,3}[#A-Za-z0-9]{0,24})\Z"
)


def _digits(number: int, width: int) -> bytes:
    """The number in hexadecimal, in either case."""
    return "".join(map(_either, f"{number:0{width}x}")).encode()


def _escapes(character: str) -> dict[bytes, list[bytes]]:
    """Patterns of all its escapes but the lead's repetitions, by their lead."""
    raw, point = character.encode(), ord(character)
    wide = _units(character)
    percent = [rb"%(?:25){0,3}".join(_digits(byte, 2) for byte in raw)]
    percent.append(rb"%(?:25){0,3}".join(rb"[uU]" + _digits(unit, 4) for unit in wide))
    slash = [rb"\\{1,8}".join(rb"[uU]" + _digits(unit, 4) for unit in wide)]
    slash.append(rb"\\{1,8}".join(rb"[xX]" + _digits(byte, 2) for byte in raw))
    if character in _SLASHED:
        slash.append(re.escape(raw))
    reference = [rb"#0{0,7}%d(?:;|(?![0-9;]))" % point]
    reference.append(rb"#[xX]0{0,7}" + _digits(point, 1) + rb"(?:;|(?![0-9A-Fa-f;]))")
    reference += [re.escape(name.encode()) for name in sorted(_NAMES.get(character, []), reverse=True)]
    return {b"%": percent, b"\\": slash, b"&": reference}


_PREFIXES = {b"%": rb"%(?:25){0,3}", b"\\": rb"\\{1,8}", b"&": rb"&(?:amp;){0,3}"}


def _pattern(lead: bytes, escapes: Iterable[bytes]) -> bytes:
    return _PREFIXES[lead] + rb"(?:" + rb"|".join(escapes) + rb")"


class Character:
    """One character: as it is, and its escapes."""

    __slots__ = ("begun", "doubles", "escaped", "raw")

    def __init__(self, character: str) -> None:
        self.raw = character.encode()
        self.escaped = re.compile(
            b"|".join(_pattern(lead, escapes) for lead, escapes in _escapes(character).items())
        )
        self.begun = _BEGUN if len(self.raw) == 1 else _BEGUN_WIDE
        self.doubles = character == "\\"


character_of = cache(Character)


def escapes_of(characters: Iterable[str]) -> dict[bytes, bytes]:
    """Patterns of what any escape of the characters begins with, by their lead; made to be searched for fast."""
    letters = sorted(set(characters))
    raw = {byte for one in letters for byte in one.encode()}
    units = {unit for one in letters for unit in _units(one)}
    points = {ord(one) for one in letters}
    specials = "".join(one for one in letters if one in _SLASHED or one == "\\")
    slash = rb"[uU](?:%b)|[xX](?:%b)" % (_any_hex(units, 4), _any_hex(raw, 2))
    if specials:
        slash += rb"|[%b]" % re.escape(specials.encode())
    names = sorted({name for one in letters for name in _NAMES.get(one, [])}, reverse=True)
    reference = rb"#0{0,7}(?:%b)(?![0-9])|#[xX]0{0,7}(?:%b)(?![0-9A-Fa-f])" % (
        _any_decimal(points),
        _any_hex(points, 2),
    )
    reference = b"|".join([reference, *(re.escape(name.encode()) for name in names)])
    return {
        b"%": rb"%%(?:25|%b|[uU](?:%b))" % (_any_hex(raw, 2), _any_hex(units, 4)),
        b"\\": rb"\\\\*(?:%b)" % slash,
        b"&": rb"&(?:amp;){0,3}(?:%b)" % reference,
    }


def _units(character: str) -> list[int]:
    coded = character.encode("utf-16-be")
    return [int.from_bytes(coded[at : at + 2], "big") for at in range(0, len(coded), 2)]


def _any_hex(numbers: Iterable[int], width: int) -> bytes:
    """One of the numbers in hexadecimal, those that differ in their last digit alone together."""
    return _any({f"{number:0{width}x}" for number in numbers})


def _any_decimal(numbers: Iterable[int]) -> bytes:
    return _any({str(number) for number in numbers})


def _any(texts: set[str]) -> bytes:
    groups: dict[str, list[str]] = {}
    for text in sorted(texts):
        groups.setdefault(text[:-1], []).append(text[-1])
    return "|".join(
        "".join(_either(digit) for digit in start) + "[" + "".join({*last, *"".join(last).upper()}) + "]"
        for start, last in groups.items()
    ).encode()


def _either(digit: str) -> str:
    return f"[{digit}{digit.upper()}]" if digit.isalpha() else digit


def names_of(characters: Iterable[str]) -> bytes:
    """The letters of the names that HTML has for the characters, and for `&` itself."""
    return "".join(name for one in {*characters, "&"} for name in _NAMES.get(one, [])).encode()


class Text:
    """One text that is looked for.

    Attributes:
        characters: what it is made of.
        first: its first character.
        letters: the different characters.
        longest: bytes of its longest spelling.
    """

    __slots__ = ("characters", "first", "letters", "longest")

    def __init__(self, text: str) -> None:
        self.letters = frozenset(text)
        self.characters = [character_of(one) for one in text]
        self.first = text[0]
        self.longest = sum(LONGEST * len(one.raw) for one in self.characters)

    def ends(self, data: bytes, at: int) -> int | None:
        """Where the text ends that begins here; None: it does not, or not yet."""
        return self._walk(data, at)[0]

    def opens(self, data: bytes, at: int) -> bool:
        """Whether further bytes may make it stand here, or reach further."""
        return self._walk(data, at)[1]

    def _walk(self, data: bytes, at: int) -> tuple[int | None, bool]:
        size, places, opens = len(data), [at], False
        for one in self.characters:
            following: list[int] = []
            raw = one.raw
            for place in places:
                if place >= size:
                    opens = True
                    continue
                if data.startswith(raw, place):
                    following.append(place + len(raw))
                    if one.doubles:
                        following += [place + len(run) for run in _DOUBLED if data.startswith(run, place)]
                elif size - place < len(raw) and raw.startswith(data[place:]):
                    opens = True
                if data[place] not in LEADS:
                    continue
                escaped = one.escaped.match(data, place)
                if escaped is not None:
                    following.append(escaped.end())
                opens = opens or (
                    size - place <= LONGEST * len(raw) and one.begun.match(data, place) is not None
                )
            if not following:
                return None, opens
            places = following if len(following) == 1 else sorted(set(following))
        return places[-1], opens
