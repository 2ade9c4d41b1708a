r"""Values of secrets in what an upstream answers: each becomes its placeholder again before the program sees it.

Pure. Found are the value, and base64 of it in either alphabet at any alignment, and the credential of `Basic`: as they
are, or with any of their characters escaped in any mix (`spelling`); the value also in hexadecimal and as UTF-16. Also
across pieces of a body, of which no more is held back than may be the beginning of one. Not found: a value that was
transformed in any other way (hashed, reversed, compressed, cut in two), one of fewer than `SHORTEST` bytes, and one
that comes from a host that the secret is not for.

    echoes = Echoes([Echo(b"s3cr3t-value", b"capsule-secret-token-…", user="me")])
    echoes.replace(b"you sent s3cr3t\\u002dvalue")   # (b"you sent capsule-secret-token-…", 1)
    stream = echoes.stream(keep_length=False)
    stream.feed(b"you sent s3cr3"), stream.feed(b"t-value"), stream.end(), stream.count
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from capsule.egress.prospect import Prospect
from capsule.egress.spelling import ALPHABET, LEADS, Text, escapes_of, names_of

SHORTEST = 6
"""Bytes of the shortest value that is looked for: a shorter one stands in answers by chance."""
_FEW = 16
"""Escapes of one kind in a piece that are each looked at before it is asked whether the piece can hold a value."""
_URL_ALPHABET = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class Echo:
    """A value that may come back.

    Attributes:
        value: what went out.
        placeholder: what stands for it inside.
        user: of a `basic` secret, when the policy names one.
    """

    value: bytes = field(repr=False)
    placeholder: bytes
    user: str | None = None


@dataclass(frozen=True, slots=True)
class _Hit:
    start: int
    end: int
    instead: bytes


class Echoes:
    """The values that one host was given."""

    def __init__(self, known: Iterable[Echo]) -> None:
        self._instead: dict[bytes, bytes] = {}
        self._texts: list[tuple[Text, bytes]] = []
        fixed: set[bytes] = set()
        for one in known:
            if len(one.value) < SHORTEST:
                continue
            for spelled, instead in _escapable(one):
                if spelled not in self._instead:
                    self._instead[spelled] = instead
                    self._texts.append((Text(spelled.decode()), instead))
            for spelled, instead in _unescaped(one):
                if spelled not in self._instead:
                    self._instead[spelled] = instead
                    fixed.add(spelled)
        self._fixed = sorted(fixed)
        # By the byte that they begin with, when it is no escape's.
        self._beginning: dict[bytes, list[tuple[Text, bytes]]] = {}
        for text, instead in self._texts:
            if (first := text.first.encode()[:1]) not in LEADS:
                self._beginning.setdefault(first, []).append((text, instead))
        letters = {letter for text, _ in self._texts for letter in text.letters}
        self._escapes = [(lead, re.compile(pattern)) for lead, pattern in escapes_of(letters).items()]
        self._alphabet = bytes({*"".join(letters).encode(), *names_of(letters), *ALPHABET})
        self._prospect = Prospect([one for one in self._instead if one not in fixed], self._alphabet)
        # Between other bytes than those of the alphabet; the other fixed ones are hexadecimal.
        self._wide = [one for one in self._fixed if b"\0" in one]
        begin = sorted({_begin(spelled) for spelled in self._instead if spelled not in fixed})
        begin += escapes_of(text.first for text, _ in self._texts).values()
        self._first = re.compile(b"|".join(begin) if self._texts else b"(?!)")
        begin.append(rb"[%\\&](?=.{0,127}\Z)")
        self._last = re.compile(b"|".join(begin) if self._texts else b"(?!)", re.DOTALL)
        self.longest = max((text.longest for text, _ in self._texts), default=0)

    def __bool__(self) -> bool:
        return bool(self._instead)

    def replace(self, data: bytes, *, keep_length: bool = False) -> tuple[bytes, int]:
        """The bytes with placeholders, and how many were put in.

        Args:
            data: of a header or of a whole body.
            keep_length: a placeholder is cut, or filled up with `*`, to the length of what it replaces.
        """
        return self._put(data, self._found(data), keep_length=keep_length)

    @staticmethod
    def _put(data: bytes, hits: list[_Hit], *, keep_length: bool) -> tuple[bytes, int]:
        if not hits:
            return data, 0
        out, at = [], 0
        for hit in hits:
            length = hit.end - hit.start
            out += [
                data[at : hit.start],
                hit.instead[:length].ljust(length, b"*") if keep_length else hit.instead,
            ]
            at = hit.end
        return b"".join([*out, data[at:]]), len(hits)

    def split(self, data: bytes, *, keep_length: bool) -> tuple[bytes, int, bytes]:
        """What may go on, how many values were in it, and the end that may be the beginning of one."""
        hits = self._found(data)
        at, before = self._begun(data, 0), 0
        # A whole value that reaches over that place is not cut: the search goes on behind it.
        for hit in hits:
            if hit.start >= at:
                break
            before += 1
            if hit.end > at:
                at = self._begun(data, hit.end)
        changed, count = self._put(data[:at], hits[:before], keep_length=keep_length)
        return changed, count, data[at:]

    def _found(self, data: bytes) -> list[_Hit]:
        """What is replaced: of those that begin first the longest, none over another."""
        hits: list[_Hit] = []
        likely = self._prospect.runs(data)
        for spelled in self._instead if likely else self._wide:
            instead = self._instead[spelled]
            at = data.find(spelled) if spelled[:1] in data else -1
            while at >= 0:
                hits.append(_Hit(at, at + len(spelled), instead))
                at = data.find(spelled, at + 1)
        for lead, pattern in self._escapes if likely else ():
            if lead not in data:
                continue
            looked = 0
            for count, escape in enumerate(pattern.finditer(data)):
                # One with a reference of HTML in it is found by that.
                if count == _FEW and lead != b"&" and not self._prospect.decodes(data):
                    break
                # A value that holds this escape begins where only bytes of the alphabet lie between.
                start = self._reach(data, escape.start(), looked)
                looked = escape.end()
                while (begin := self._first.search(data, start, looked)) is not None:
                    hits += self._at(data, begin.start())
                    start = begin.start() + 1
        if len(hits) < 2:
            return hits
        hits.sort(key=lambda hit: (hit.start, -hit.end))
        kept = [hits[0]]
        for hit in hits:
            if hit.start >= kept[-1].end:
                kept.append(hit)
        return kept

    def _reach(self, data: bytes, end: int, least: int) -> int:
        """The first of the bytes before a place that may belong to one value with it."""
        before = data[max(least, end - self.longest) : end]
        return end - len(before) + len(before.rstrip(self._alphabet))

    def _at(self, data: bytes, start: int) -> list[_Hit]:
        return [
            _Hit(start, end, instead)
            for text, instead in self._beginning.get(data[start : start + 1], self._texts)
            if (end := text.ends(data, start)) is not None
        ]

    def _begun(self, data: bytes, least: int) -> int:
        """Where the end of the bytes may be the beginning of a value; their length when it is not."""
        size = at = len(data)
        start = self._reach(data, size, least)
        while found := self._last.search(data, start):
            start = found.start()
            if any(text.opens(data, start) for text, _ in self._beginning.get(found[0][:1], self._texts)):
                at = start
                break
            start += 1
        for spelled in self._fixed:
            if spelled[:1] in data[least:][-len(spelled) :]:
                for start in range(max(least, size - len(spelled) + 1), at):
                    if data[start] == spelled[0] and spelled.startswith(data[start:]):
                        at = start
                        break
        return at

    def stream(self, *, keep_length: bool) -> EchoStream:
        """For one body that comes in pieces."""
        return EchoStream(self, keep_length=keep_length)


class EchoStream:
    """One body.

    Attributes:
        count: values that were replaced so far.
    """

    def __init__(self, echoes: Echoes, *, keep_length: bool) -> None:
        self._echoes = echoes
        self._keep_length = keep_length
        self._held = b""
        self._gone = 0  # bytes of what is held that went on already
        self.count = 0

    def feed(self, data: bytes) -> bytes:
        """What may go on now."""
        changed, count, self._held = self._echoes.split(self._held + data, keep_length=self._keep_length)
        self.count += count
        return self._new(changed)

    def release(self, most: int) -> bytes:
        """What is held back, if it is not more than so many bytes; it is still one with what follows.

        Only of a body that keeps its length: what has gone on cannot be taken back.
        """
        if not self._keep_length or len(self._held) > most:
            return b""
        gone, self._gone = self._gone, len(self._held)
        return self._held[gone:]

    def end(self) -> bytes:
        """The rest, when the body is over."""
        held, self._held = self._held, b""
        changed, count = self._echoes.replace(held, keep_length=self._keep_length)
        self.count += count
        return self._new(changed)

    def _new(self, changed: bytes) -> bytes:
        """Without what went on already."""
        gone = min(self._gone, len(changed))
        self._gone -= gone
        return changed[gone:]


def _begin(spelled: bytes) -> bytes:
    """A pattern for its first three bytes, or fewer before an escape or the end."""
    one, two, three = (re.escape(spelled[at : at + 1]) for at in range(3))
    return rb"%b(?:%b(?:%b|[%%\\&]|\Z)|[%%\\&]|\Z)" % (one, two, three)


def _escapable(one: Echo) -> Iterator[tuple[bytes, bytes]]:
    """Texts whose characters may be escaped, and what is put there."""
    value, placeholder = one.value, one.placeholder
    yield value, placeholder
    if b" " in value:
        yield value.replace(b" ", b"+"), placeholder
    if not value.isascii():
        yield value.decode("latin-1").encode(), placeholder  # of a server that takes fields for Latin-1
    if one.user is not None:
        user = one.user.encode() + b":"
        yield base64.b64encode(user + value), base64.b64encode(user + placeholder)
    for alignment in range(3):
        # The characters that it shares with its neighbours are left out.
        encoded = base64.b64encode(b"\0" * alignment + value)
        whole = (alignment + len(value)) % 3 == 0
        inner = encoded.rstrip(b"=")[(0, 2, 3)[alignment] :]
        inner = inner if whole else inner[:-1]
        if len(inner) >= SHORTEST:
            yield inner, placeholder
            yield inner.translate(_URL_ALPHABET), placeholder


def _unescaped(one: Echo) -> Iterator[tuple[bytes, bytes]]:
    """Spellings that stand as they are."""
    text, instead = one.value.decode(), one.placeholder.decode()
    yield one.value.hex().encode(), one.placeholder.hex().encode()
    yield one.value.hex().upper().encode(), one.placeholder.hex().upper().encode()
    for coding in ("utf-16-le", "utf-16-be"):
        # Without the zero at one end the two are mostly the same.
        yield text.encode(coding).strip(b"\0"), instead.encode(coding).strip(b"\0")
