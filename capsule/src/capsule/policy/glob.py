"""The patterns of `deny` and `protect`, matched on bytes exactly as the launcher matches them.

`*`, `?`, `[abc]`, `[a-z]`, `[!abc]`, and `**` as a whole segment; a pattern covers what it names and
everything beneath. Time is bounded by (length of the name) by (length of the pattern), whatever they hold.

    Pattern.parse("/w/**/.env").covers("/w/a/.env/x")      # True
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Token = bytes | frozenset[int] | None
"""One byte, a set of bytes, or None for `*`."""
Glob = tuple[Token, ...]
"""A segment, `**` aside."""

S = TypeVar("S")

_ANY = frozenset(range(256))


def split(path: str) -> list[bytes]:
    """The segments of an absolute path, as bytes."""
    return [segment for segment in path.encode("utf-8", "surrogateescape").split(b"/") if segment]


@dataclass(frozen=True, slots=True)
class Pattern:
    """`anchor` are the literal segments at the beginning; in `tail`, None stands for `**`."""

    anchor: tuple[bytes, ...]
    tail: tuple[Glob | None, ...]

    @classmethod
    def parse(cls, text: str, beneath: str = "") -> Pattern:
        """The pattern of an absolute text that the policy parser or the launcher has checked.

        Args:
            text: names and globs.
            beneath: the directory it begins in: a name, whatever signs are in it.
        """
        segments = split(text)
        literal = next((i for i, segment in enumerate(segments) if _is_glob(segment)), len(segments))
        tail = [None if segment == b"**" else tuple(read_tokens(segment)) for segment in segments[literal:]]
        while tail and tail[-1] is None:
            tail.pop()
        return cls((*split(beneath), *segments[:literal]), tuple(tail))

    @property
    def in_any_repository(self) -> bool:
        """Whether it is `anchor/**/.git/…`: what it covers lies in a repository, wherever that is."""
        return len(self.tail) > 2 and self.tail[0] is None and self.tail[1] == (b".", b"g", b"i", b"t")

    def covers(self, path: str) -> bool:
        """Whether the pattern names this path or something above it."""
        segments = split(path)
        depth = len(self.anchor)
        return tuple(segments[:depth]) == self.anchor and self.covers_below(segments[depth:])

    def covers_below(self, segments: list[bytes]) -> bool:
        """`covers`, for what follows the anchor."""
        return self._takes(segments, matches)

    def includes(self, other: Pattern) -> bool:
        """Whether this surely covers all that `other` covers; where that is not plain, it is not said.

        A name `${…}` of `other` stands for any number of names: only `**` and the same name include it.
        """
        return Pattern((), self._globs())._takes(other._globs(), _includes)

    def _takes(self, segments: Iterable[S], one: Callable[[Glob, S], bool]) -> bool:
        """Whether the tail takes these segments, or the first of them; `one` tells for a single glob."""
        places = self._open({0})
        for segment in segments:
            if len(self.tail) in places:
                return True
            onward: set[int] = set()
            for place in places:
                glob = self.tail[place]
                if glob is None:
                    onward.add(place)
                elif one(glob, segment):
                    onward.add(place + 1)
            places = self._open(onward)
        return len(self.tail) in places

    def _globs(self) -> tuple[Glob | None, ...]:
        names = (tuple(name[at : at + 1] for at in range(len(name))) for name in self.anchor)
        return (*names, *self.tail)

    def _open(self, places: set[int]) -> set[int]:
        # `**` also takes no segment at all.
        found = set(places)
        for place in sorted(places):
            at = place
            while at < len(self.tail) and self.tail[at] is None:
                at += 1
                found.add(at)
        return found


def matches_name(pattern: str, name: str) -> bool:
    """Whether a glob over names, as `env.pass` has them, matches all of `name`."""
    return matches(tuple(read_tokens(pattern.encode())), name.encode("utf-8", "surrogateescape"))


def matches(tokens: Glob, name: bytes) -> bool:
    """Whether the tokens match all of `name`. Going back to the last star alone is enough."""
    at, place, star, taken = 0, 0, -1, 0
    while place < len(name):
        token = tokens[at] if at < len(tokens) else b""
        if token is None:
            star, taken = at, place
            at += 1
        elif (name[place : place + 1] == token) if isinstance(token, bytes) else name[place] in token:
            at, place = at + 1, place + 1
        elif star >= 0:
            taken += 1
            at, place = star + 1, taken
        else:
            return False
    return all(token is None for token in tokens[at:])


def _includes(glob: Glob, other: Glob | None) -> bool:
    if other is None:
        return False
    if glob == other:
        return True
    if any(not isinstance(token, bytes) for token in other):
        return glob == (None,)
    name = b"".join(token for token in other if isinstance(token, bytes))
    return not name.startswith(b"${") and matches(glob, name)


def _is_glob(segment: bytes) -> bool:
    return any(byte in b"*?[" for byte in segment)


def read_tokens(segment: bytes) -> Iterator[Token]:
    """The tokens of one segment of a checked pattern."""
    at = 0
    while at < len(segment):
        byte = segment[at : at + 1]
        at += 1
        if byte == b"*":
            yield None
        elif byte == b"?":
            yield _ANY
        elif byte == b"[":
            # A `]` right at the beginning stands for itself.
            first = at + (segment[at : at + 1] == b"!")
            end = segment.index(b"]", first + 1)
            yield _set(segment[first:end], negated=first > at)
            at = end + 1
        else:
            yield byte


def _set(members: bytes, *, negated: bool) -> frozenset[int]:
    found: set[int] = set()
    at = 0
    while at < len(members):
        is_range = members[at + 1 : at + 2] == b"-" and at + 2 < len(members)
        found.update(range(members[at], members[at + 2] + 1) if is_range else [members[at]])
        at += 3 if is_range else 1
    return _ANY - found if negated else frozenset(found)
