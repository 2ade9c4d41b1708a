"""The text of an overlay's changes: names and contents come from a sandbox and are escaped.

for line in unified(root, upper_directory, change, "/work", raw=False, colour=False): ...
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capsule.overlay.change import Change, Entry, shown
from capsule.overlay.layer import open_below
from capsule.overlay.manifest import Root

MAX_TEXT = 1 << 20
"""Longer files, in bytes, are named and not shown."""

_LETTER = {"added": "A", "changed": "M", "removed": "D", "mode": "m", "replaced": "R"}
_COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}


def named(root: Root, change: Change, here: str) -> str:
    """The changed name, escaped: relative to `here` when it lies beneath, so that a patch fits there; else absolute."""
    path = f"{root.path.rstrip('/')}/{change.path}"
    return shown(path.removeprefix(here.rstrip("/") + "/"))


def summary(root: Root, change: Change, here: str) -> str:
    """One line: what happened, to which name (seen from the directory `here`), and what to know about it."""
    path = named(root, change, here)
    parts = [f"{_LETTER[change.action]} {path}{_detail(change)}"]
    if change.refused is not None:
        parts.append(f"REFUSED: {shown(change.refused)}")
    if change.conflict is not None:
        parts.append(f"CONFLICT: {shown(change.conflict)}")
    parts.extend(change.notes)
    return "   ".join(parts)


def _detail(change: Change) -> str:
    before, after = change.before, change.after
    if change.action == "mode":
        return f"  mode {before.mode & 0o777:o} -> {after.mode & 0o777:o}"
    if after.kind == "link":
        return f" -> {shown(after.target)}"
    if "directory" in (after.kind, before.kind) and before.kind != "file":
        return "/"
    return ""


def as_json(root: Root, change: Change) -> dict[str, Any]:
    """A change for programs; undecodable bytes of names as lone surrogates."""

    def entry(found: Entry) -> dict[str, Any] | None:
        if found.kind == "absent":
            return None
        return {
            "kind": found.what or found.kind,
            "mode": found.mode & 0o7777,
            "size": found.size,
            "target": found.target,
        }

    return {
        "root": root.path,
        "path": change.path,
        "action": change.action,
        "before": entry(change.before),
        "after": entry(change.after),
        "refused": change.refused,
        "conflict": change.conflict,
        "notes": list(change.notes),
    }


def unified(root: Root, upper: Path, change: Change, here: str, *, raw: bool, colour: bool) -> Iterator[str]:
    """The lines of a unified diff of one change, without their ends; names as seen from `here`."""
    path = named(root, change, here).lstrip("/")
    yield _paint(summary(root, change, here), "@" if colour else "")
    if "file" not in (change.before.kind, change.after.kind) or change.action == "mode":
        return
    old = _content(Path(root.path), change.path, change.before)
    new = _content(upper, change.path, change.after)
    if old is None or new is None:
        yield f"binary or long file: {change.before.size} -> {change.after.size} bytes"
        return
    names = (
        f"a/{path}" if change.before.kind == "file" else "/dev/null",
        f"b/{path}" if change.after.kind == "file" else "/dev/null",
    )
    for line in difflib.unified_diff(old, new, *names, lineterm=""):
        text = line if raw else "".join(c if c.isprintable() or c == "\t" else shown(c) for c in line)
        yield _paint(text, line[:1] if colour else "")


def _content(base: Path, path: str, entry: Entry) -> list[str] | None:
    if entry.kind != "file":
        return []
    if entry.size > MAX_TEXT:
        return None
    try:
        with os.fdopen(open_below(base, path), "rb") as file:
            data = file.read(MAX_TEXT + 1)
    except OSError:
        return None
    if b"\0" in data or len(data) > MAX_TEXT:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    lines = text.split("\n")
    if lines[-1] == "":
        return lines[:-1]
    # As git says it; without it two files that differ in their last byte alone would look equal.
    return [*lines[:-1], lines[-1] + "  (no newline at end of file)"]


def _paint(text: str, sign: str) -> str:
    colour = _COLOURS.get(sign, "")
    return f"{colour}{text}\x1b[0m" if colour else text
