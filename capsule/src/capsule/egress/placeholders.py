"""Where a placeholder of this session is seen in bytes on their way out, however it is spelled.

Pure. Found: as it is, percent-encoded, with JSON escapes, and inside base64 of either alphabet at any alignment; also
base64 that was percent-encoded. Refuses nothing: what hides a placeholder better than that hides only a placeholder,
which is worth nothing outside. Work is linear in the input, and memory is bounded.

    found = Placeholders({"github": "capsule-secret-github-0123…"})
    found.seen(b"Basic dXNlcjpjYXBzdWxlLXNlY3JldC1naXRodWIt…")     # {"github"}
    scanner = found.scanner()
    scanner.feed(chunk)                                             # names seen for the first time in a body
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping

PREFIX = b"capsule-secret-"
FORM = re.compile(r"capsule-secret-([a-z][a-z0-9_-]{0,31})-[0-9a-f]{32}")
_ANY = re.compile(FORM.pattern.encode())
SCANNED = 1 << 20
"""Bytes of a body that are looked at."""
_LONGEST = len(PREFIX) + 32 + 1 + 32
_CARRY = 6 * _LONGEST  # spelled with an escape for each character
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"\\u00([0-9A-Fa-f]{2})")
_RUN = re.compile(rb"[A-Za-z0-9+/_-]+")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def _core(alignment: int) -> bytes:
    """What base64 makes of the prefix behind so many other bytes, without the characters they share."""
    text = base64.b64encode(b"\0" * alignment + PREFIX)
    return text[(0, 2, 3)[alignment] : len(text) - (0, 4, 4)[alignment]]


_CORES = re.compile(b"|".join(re.escape(_core(alignment)) for alignment in range(3)))


def percent_decoded(data: bytes) -> bytes:
    """With each `%XX` as its byte; what is not of that form stays."""
    return _PERCENT.sub(lambda found: bytes.fromhex(found[1].decode()), data) if b"%" in data else data


class Placeholders:
    """The placeholders of one session.

    Args:
        placeholders: by the secret's name.

    Raises:
        ValueError: one that is not of the documented form, or that belongs to two names.
    """

    def __init__(self, placeholders: Mapping[str, str]) -> None:
        self._names: dict[bytes, str] = {}
        for name, text in placeholders.items():
            found = FORM.fullmatch(text)
            if found is None or found[1] != name or text.encode() in self._names:
                raise ValueError(
                    f"the placeholder of secret {name!r} is not capsule-secret-{name}-<32 hex digits>"
                )
            self._names[text.encode()] = name
        # The longer first: no placeholder is then taken for a part of another.
        ordered = sorted(self._names, key=len, reverse=True)
        self.pattern = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None

    def name(self, placeholder: bytes) -> str:
        """Whose placeholder this is."""
        return self._names[placeholder]

    def plain(self, data: bytes) -> set[str]:
        """The names of those that stand there as they are."""
        if self.pattern is None or PREFIX not in data:
            return set()
        return {self._names[found[0]] for found in self.pattern.finditer(data)}

    def seen(self, data: bytes) -> set[str]:
        """The names of those that are there in any spelling."""
        if self.pattern is None:
            return set()
        found = self.plain(data) | self._in_base64(data)
        if b"%" in data:
            decoded = percent_decoded(data)
            found |= self.plain(decoded) | self._in_base64(decoded)
        if b"\\u00" in data:
            found |= self.plain(_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), data))
        return found

    def strangers(self, data: bytes) -> set[str]:
        """The names in placeholders of other sessions: as they are, percent-encoded, or in base64."""
        found = self._others(data) | self._in_base64(data, self._others)
        decoded = percent_decoded(data)
        return (
            found
            if decoded == data
            else found | self._others(decoded) | self._in_base64(decoded, self._others)
        )

    def _others(self, data: bytes) -> set[str]:
        if PREFIX not in data:
            return set()
        if self.pattern is not None:
            data = self.pattern.sub(b" ", data)
        return {found[1].decode() for found in _ANY.finditer(data)}

    def scanner(self, most: int | None = SCANNED) -> Scanner:
        """For one body, of which `most` bytes are looked at; None: all."""
        return Scanner(self, most)

    def _in_base64(self, data: bytes, look: Callable[[bytes], set[str]] | None = None) -> set[str]:
        look = look or self.plain
        found: set[str] = set()
        for run in _runs(data.translate(None, b"\r\n") if b"\n" in data else data):
            for start in range(4):
                whole = run[start : len(run) - (len(run) - start) % 4]
                try:
                    found |= look(binascii.a2b_base64(whole))
                except binascii.Error:
                    continue
        return found


def _runs(data: bytes) -> Iterator[bytes]:
    """The stretches of base64 that hold the beginning of a placeholder, each once, padded to be read from any start."""
    # The URL alphabet's two characters are those of the other: the prefix's encodings have neither.
    end = 0
    for hit in _CORES.finditer(data):
        if hit.start() < end:
            continue
        start = hit.start()
        first = data[max(start - 4, end) : start]  # three characters are enough to find the alignment
        tail = _RUN.match(data, start)
        end = tail.end() if tail else hit.end()
        lead = re.search(rb"[A-Za-z0-9+/_-]*$", first)
        yield ((lead[0] if lead else b"") + data[start:end]).translate(_STANDARD) + b"AAAA"


class Scanner:
    """Looks through the first bytes of a body that comes in pieces of any size."""

    def __init__(self, placeholders: Placeholders, most: int | None = SCANNED) -> None:
        self._placeholders = placeholders
        self._carry = b""
        self._left = most
        self._known: set[str] = set()

    def feed(self, chunk: bytes) -> set[str]:
        """The next piece; the names that are seen now and were not before."""
        if self._left == 0 or not chunk:
            return set()
        data = self._carry + chunk[: self._left]
        if self._left is not None:
            self._left -= min(self._left, len(chunk))
        self._carry = data[-_CARRY:]
        new = self._placeholders.seen(data) - self._known
        self._known |= new
        return new
