"""Paths of URLs: one reading for what a request asks for, and globs over it.

A host entry's `paths` are matched on the decoded path. What two servers could read in two ways is not matched at all:
encoded slashes, backslashes, dots and NULs, also in more bytes than they take, dot segments (also before a `;`), empty
segments, broken or double escapes, control characters. Refusing them costs ordinary clients nothing: they resolve dot
segments before they ask.

    PathGlob.parse("/repos/acme/**").matches(path_segments("/repos/acme/site/issues"))      # True
    path_segments("/a/%2e%2e/b")                                                            # PathRefused

Rules see `certain_path`: decoded once, or nothing where servers may read it differently. What must not slip by under
another spelling, a call of a model, is looked for in all `readings`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote

from capsule.policy.glob import Token, matches, read_tokens
from capsule.policy.paths import PathError, check_segment

MAX_PATH = 16384
MAX_SEGMENTS = 256

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TELLING = re.compile(rb"%(2[eEfF]|5[cC]|00)")
# UTF-8 in more bytes than it takes (RFC 3629 3, 10): some readers see '.' or '/' there, others an error.
_OVERLONG = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
# Paths that everybody reads as they stand.
_SIMPLE = re.compile(r"(?:/[A-Za-z0-9_:@+~-][A-Za-z0-9_.:@+~-]*){0,255}/?")
_ENDS = re.compile(r"[\0#?]")
_DECODED = 3  # times that `readings` decodes


class PathRefused(ValueError):  # noqa: N818 - what is refused is the path, and nothing failed
    """A path that servers may read differently."""


def path_segments(untrusted_path: str) -> tuple[bytes, ...]:
    """The decoded segments of a request's path; a query is left aside, as is one slash at the end.

    Args:
        untrusted_path: as it stands in the request line or `:path` (RFC 9112 3.2.1, RFC 9113 8.3.1).

    Raises:
        PathRefused: when it is not one path to everybody.
    """
    raw = untrusted_path.partition("?")[0].encode("utf-8", "surrogateescape")
    if not raw.startswith(b"/"):
        raise PathRefused("the path does not begin with '/'")
    if len(raw) > MAX_PATH:
        raise PathRefused(f"the path is longer than {MAX_PATH} bytes")
    if b"\\" in raw or b"#" in raw:
        raise PathRefused("the path has a backslash or a '#'")
    if _BAD_ESCAPE.search(raw):
        raise PathRefused("the path has a broken escape")
    if _TELLING.search(raw):
        raise PathRefused("the path has an encoded '/', '\\', '.' or NUL")
    decoded = _ESCAPE.sub(lambda match: bytes([int(match.group(1), 16)]), raw)
    if _TELLING.search(decoded):
        raise PathRefused("the path is encoded twice")
    if _OVERLONG.search(decoded):
        raise PathRefused("the path has a character in more bytes than UTF-8 takes for it")
    if any(byte < 0x20 or byte == 0x7F for byte in decoded):
        raise PathRefused("the path has a control character")
    body = decoded[1:-1] if len(decoded) > 1 and decoded.endswith(b"/") else decoded[1:]
    segments = tuple(body.split(b"/")) if body else ()
    if len(segments) > MAX_SEGMENTS:
        raise PathRefused(f"the path has more than {MAX_SEGMENTS} segments")
    if decoded.endswith(b"//") or b"" in segments:
        raise PathRefused("the path has an empty segment")
    # `..;x` is `..` to servers that take parameters out of segments first.
    if any(segment.partition(b";")[0].strip() in {b".", b".."} for segment in segments):
        raise PathRefused("the path has a '.' or '..' segment")
    if any(_compatible(segment) for segment in segments):
        raise PathRefused("the path has a character that some servers read as '.', '/' or a backslash")
    return segments


def target_of(url: str) -> str:
    """The path of an absolute URL as it was sent, with its query; `/` when it has none."""
    rest = url.partition("://")[2]
    at = min((place for mark in "/?" if (place := rest.find(mark)) >= 0), default=len(rest))
    return rest[at:] if rest[at:].startswith("/") else f"/{rest[at:]}"


def plain_path(untrusted_target: str) -> str:
    """The path decoded once and without dot segments (RFC 3986 5.2.4), as most servers read it; for records.

    Bytes that are not UTF-8 are shown escaped.
    """
    path = untrusted_target.partition("?")[0]
    if not path.startswith("/") or (len(path) <= MAX_PATH and _SIMPLE.fullmatch(path)):
        return path
    raw = path.encode("utf-8", "surrogateescape")
    decoded = _ESCAPE.sub(lambda match: bytes([int(match.group(1), 16)]), raw)
    return "/" + "/".join(_resolved(decoded.decode("utf-8", "backslashreplace")[1:].split("/")))


def certain_path(untrusted_target: str) -> str | None:
    """`plain_path`, when every server reads this one; else None.

    Beside what `path_segments` refuses, a `;` makes it uncertain (some take parameters out of segments), and so
    do an escape that is left and bytes that are not UTF-8. Case and one slash at the end stay as they are.
    """
    path = untrusted_target.partition("?")[0]
    if len(path) <= MAX_PATH and _SIMPLE.fullmatch(path):
        return path
    try:
        segments = path_segments(path)
        for segment in segments:
            segment.decode()
    except (PathRefused, UnicodeDecodeError):
        return None
    if any(b";" in segment or _ESCAPE.search(segment) for segment in segments):
        return None
    return plain_path(path)


def normalised(untrusted_text: str) -> str:
    """A query or a URL with letters, digits and `-._~` unescaped: the same to everybody (RFC 3986 6.2.2.2)."""
    return _ESCAPED.sub(_unreserved, untrusted_text) if "%" in untrusted_text else untrusted_text


def _unreserved(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    plain = character.isascii() and (character.isalnum() or character in "-._~")
    return character if plain else found[0]


def readings(untrusted_target: str) -> tuple[str, ...]:
    """Everything that servers may read a path as, without its query.

    As it stands, decoded up to three times, and cut at what ends a path for some; each without empty and dot segments
    and parameters, a backslash being a slash.
    """
    path = untrusted_target.partition("?")[0]
    if len(path) <= MAX_PATH and _SIMPLE.fullmatch(path):
        return (path.rstrip("/"),)
    found: dict[str, None] = {}
    for _ in range(_DECODED + 1):
        found[_loose(path)] = None
        if _ENDS.search(path):
            found[_loose(_ENDS.split(path, maxsplit=1)[0])] = None
        decoded = unquote(path, errors="replace")
        if decoded == path:
            break
        path = decoded
    return tuple(found)


def _loose(path: str) -> str:
    plain = unicodedata.normalize("NFKC", path).replace("\\", "/")
    segments = [segment.partition(";")[0].strip() for segment in plain.split("/")]
    return "/" + "/".join(_resolved([segment for segment in segments if segment]))


def _resolved(segments: list[str]) -> list[str]:
    """Without dot segments; one at the end leaves its slash."""
    found: list[str] = []
    for segment in segments:
        if segment == "..":
            del found[-1:]
        elif segment != ".":
            found.append(segment)
    return [*found, ""] if segments and segments[-1] in {".", ".."} else found


def _compatible(segment: bytes) -> bool:
    """Whether Unicode's compatible form (UAX #15) makes another segment of it, or more: two U+FF0E are `..` there."""
    if segment.isascii():
        return False
    plain = unicodedata.normalize("NFKC", segment.decode("utf-8", "replace"))
    return bool({"/", "\\"} & set(plain)) or plain.partition(";")[0].strip() in {".", ".."}


@dataclass(frozen=True, slots=True)
class PathGlob:
    """A glob over whole paths; None stands for `**`. Unlike a file pattern it does not cover what is beneath."""

    parts: tuple[tuple[Token, ...] | None, ...]

    @classmethod
    def parse(cls, text: str) -> PathGlob:
        """The glob of a text that `check_glob` or the launcher has looked at."""
        segments = [segment for segment in text.encode().split(b"/") if segment]
        return cls(tuple(None if segment == b"**" else tuple(read_tokens(segment)) for segment in segments))

    def matches(self, segments: tuple[bytes, ...]) -> bool:
        """Whether the glob names all of the path. Time is bounded by (segments) by (parts) by their lengths."""
        places = self._open({0})
        for segment in segments:
            onward: set[int] = set()
            for place in places:
                if place == len(self.parts):
                    continue
                part = self.parts[place]
                if part is None:
                    onward.add(place)
                elif matches(part, segment):
                    onward.add(place + 1)
            if not onward:
                return False
            places = self._open(onward)
        return len(self.parts) in places

    def _open(self, places: set[int]) -> set[int]:
        # `**` also takes no segment at all.
        found = set(places)
        for place in sorted(places):
            at = place
            while at < len(self.parts) and self.parts[at] is None:
                at += 1
                found.add(at)
        return found


def check_glob(text: str) -> str:
    """A glob as a policy writes it, without a slash at its end.

    Raises:
        PathError: when it could never match, or not what it seems to say.
    """
    if not text.startswith("/"):
        raise PathError(f"the path {text[:80]!r} does not begin with '/'", "'/v1/**', '/repos/*/issues', …")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise PathError("a path with a control character")
    if "?" in text or "#" in text:
        raise PathError(
            f"the path {text[:80]!r} has a '?' or '#'",
            next_step="the query is no part of a path: rules look at it",
        )
    if "%" in text:
        raise PathError(
            f"the path {text[:80]!r} has a percent sign",
            next_step="write paths decoded: '/a b', not '/a%20b'",
        )
    if "\\" in text:
        raise PathError(f"the path {text[:80]!r} has a backslash", "'/' between segments")
    if len(text.encode()) > 4096:
        raise PathError("a path that is too long", "at most 4096 bytes")
    if text == "/":
        return text
    body = text[1:-1] if text.endswith("/") else text[1:]
    segments = body.split("/")
    if len(segments) > 60:
        raise PathError("the path has more than 60 segments")
    for segment in segments:
        check_segment(text, segment, globs=True)
    return "/" + body
