"""Paths and patterns: from what a person writes to plan form.

`/abs`, `~/x` and `./x` (or `x`) become `/abs`, `${home}/x` and `${workspace}/x`. Refused: `..`, `.` in the
middle, empty segments, `~user`, `$VAR`, braces, backslashes, control characters, and globs where a hierarchy
is granted.

    parse_path("~/.cargo/bin", globs=False)      # '${home}/.cargo/bin'
    parse_path("**/.env*", globs=True)           # '${workspace}/**/.env*'

A sign of a glob that is part of a name stands in brackets, `[[]`, `[*]`, `[?]` or `[]]`, in plan form too: `plainly`
takes them off, `bracketed` puts them on.
"""

from __future__ import annotations

import re

MAX_PATH = 4096
MAX_SEGMENT = 255
MAX_GLOB_SEGMENTS = 60

_SIGN = re.compile(r"\[([*?\[\]])\]")
_BRACKET = re.compile(r"\[(!?)([^\[\]/!^][^\[\]/]*)\]")


class PathError(ValueError):
    """A path that is not of the language. `expected` and `next_step` continue the sentence."""

    def __init__(self, what: str, expected: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.next_step = next_step


def parse_path(text: str, *, globs: bool) -> str:
    """`text` in plan form.

    Args:
        text: as written in the policy.
        globs: whether `*`, `?`, `[…]` and `**` have their meaning; else they are refused.

    Raises:
        PathError: when it is not a path of the language.
    """
    if not text:
        raise PathError("an empty path", "a path such as ./src, ~/data or /usr")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise PathError(
            "a path with a control character (NUL, newline, …)", next_step="no such path can be granted"
        )
    if text != text.strip():
        raise PathError(f"the path {text!r} begins or ends with a space", next_step="remove the space")
    if "\\" in text:
        raise PathError(f"the path {text!r} has a backslash", "'/' between segments")
    if re.search(r"\$[A-Za-z_{(]", text):
        raise PathError(
            f"the path {text!r} has a variable",
            next_step="write ~/ for the home directory or ./ for the policy's directory",
        )
    if re.search(r"\{[^{}]*,[^{}]*\}", text):
        raise PathError(f"the path {text!r} has braces", next_step="write one entry for each alternative")
    root, rest = _split_root(text)
    segments = rest.rstrip("/").split("/") if rest.strip("/") else []
    if rest.endswith("//"):
        raise PathError(f"the path {text!r} has an empty segment", next_step="write one '/' between segments")
    for segment in segments:
        check_segment(text, segment, globs=globs)
    first = next((i for i, segment in enumerate(segments) if re.search(r"[*?\[]", segment)), len(segments))
    if len(segments) - first > MAX_GLOB_SEGMENTS:
        raise PathError(f"the pattern has more than {MAX_GLOB_SEGMENTS} segments after its first glob")
    plan_form = "/".join([root, *segments]) or "/"
    if len(plan_form.encode()) > MAX_PATH - 256:
        raise PathError("a path that is too long", f"at most {MAX_PATH - 256} bytes")
    return plan_form


def plainly(text: str) -> str:
    """A path without globs, in plan form or as written, as the name that it means."""
    return _SIGN.sub(r"\1", text)


def bracketed(name: str) -> str:
    """A name as a path of the language that means it alone: every sign that could begin a glob in brackets."""
    return re.sub(r"[*?\[]", r"[\g<0>]", name)


def _split_root(text: str) -> tuple[str, str]:
    if text.startswith("/"):
        if text.startswith("//"):
            raise PathError(
                f"the path {text!r} has an empty segment", next_step="write one '/' at the beginning"
            )
        return "", text[1:]
    if text.startswith("~"):
        if text != "~" and not text.startswith("~/"):
            raise PathError(
                f"the path {text!r} names another user's home", "~/… for your own home, or an absolute path"
            )
        return "${home}", text[2:]
    if text == "." or text.startswith("./"):
        return "${workspace}", text[2:]
    return "${workspace}", text


def check_segment(text: str, segment: str, *, globs: bool) -> None:
    """Refuse a segment that no path of the language has; `text` is the whole of it, for the error.

    Raises:
        PathError: saying which.
    """
    if segment == "..":
        raise PathError(f"the path {text!r} has a '..' segment", next_step="write the directory it leads to")
    if segment == ".":
        raise PathError(f"the path {text!r} has a '.' segment", next_step="remove it")
    if not segment:
        raise PathError(f"the path {text!r} has an empty segment", next_step="write one '/' between segments")
    if len(segment.encode()) > MAX_SEGMENT:
        raise PathError("a path segment that is too long", f"at most {MAX_SEGMENT} bytes")
    if not globs:
        if re.search(r"[*?\[]", _SIGN.sub("", segment)):
            raise PathError(
                f"the path {text!r} has a glob, but a grant covers a whole directory",
                next_step="name the directory; use globs in 'deny' and 'protect'; of a name with such a sign in it "
                f"write {bracketed(plainly(segment))}",
            )
        return
    if "**" in segment and segment != "**":
        raise PathError(f"the pattern {text!r} has '**' inside a segment", "'**' between two '/'")
    left = _BRACKET.sub("", _SIGN.sub("", segment))
    if "[" in left or ("]" in left and "[[]" not in segment):
        raise PathError(f"the pattern {text!r} has a malformed bracket", "[abc], [a-z] or [!abc]")
    for match in _BRACKET.finditer(segment):
        members = match.group(2)
        if not members.isascii():
            raise PathError(
                f"the pattern {text!r} has a letter beyond ASCII in a bracket",
                next_step="write one entry for each",
            )
        if any(low > high for low, high in re.findall(r"(.)-(.)", members)):
            raise PathError(f"the pattern {text!r} has a range that runs backward", "[a-z]")


def shown(path: str) -> str:
    """Plan form as a person writes it: `${home}/x` → `~/x`, `${workspace}/x` → `./x`."""
    for root, sign in (("${home}", "~"), ("${workspace}", "."), ("${cwd}", ".")):
        if path == root or path.startswith(root + "/"):
            return sign + path[len(root) :]
    return path
