r"""A difference as text that `git apply` takes: unified, with git's headers; binary files are named alone.

Pure: contents are arguments. Control characters are left as they are here, since a patch has to be exact; who prints
one on a terminal escapes them. Refuses nothing: what cannot be a patch (a directory, a long or binary file) says so
in a comment.

    "".join(patch(Difference("a", "changed", one, two), b"x\n", b"y\n"))
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from capsem.workspace.tree import Difference, Node

MAX_TEXT = 4 << 20
"""Longer files, in bytes, are named and not shown."""
_PLAIN = re.compile(r"[!#-\[\]-~ ]+\Z")
_ESCAPES = {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", ord('"'): '\\"', ord("\\"): "\\\\"}


def quoted(name: str) -> str:
    """A name as git writes it: in quotes with octal escapes where it is not plain."""
    if _PLAIN.match(name):
        return name
    text = "".join(
        _ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
        for byte in name.encode("utf-8", "surrogateescape")
    )
    return f'"{text}"'


def git_mode(node: Node) -> str:
    """The mode as git knows it."""
    if node.kind == "link":
        return "120000"
    return "100755" if node.mode & 0o100 else "100644"


def patch(difference: Difference, before: bytes | None, after: bytes | None) -> Iterator[str]:
    """The lines of one difference, with their ends; undecodable bytes as surrogates.

    Args:
        difference: what is not the same.
        before: the bytes it had; None where they are not shown. A link's are its target.
        after: the bytes it has.
    """
    one, two = difference.before, difference.after
    if one is not None and two is not None and one.kind != two.kind:
        # As git has it: one thing goes, another comes.
        yield from patch(Difference(difference.path, "removed", one, None), before, None)
        yield from patch(Difference(difference.path, "added", None, two), None, after)
        return
    if "directory" in {node.kind for node in (one, two) if node is not None}:
        yield f"# {_directory(difference)}\n"
        return
    old, new = _lines(one, before), _lines(two, after)
    same = one is not None and two is not None and one.same_content(two)
    if not same and (old is None or new is None):
        sizes = f"{one.size if one else 0} -> {two.size if two else 0} bytes"
        yield f"# binary or long file {difference.action}: {quoted(difference.path)} ({sizes})\n"
        return
    a, b = quoted(f"a/{difference.path}"), quoted(f"b/{difference.path}")
    yield f"diff --git {a} {b}\n"
    if one is None:
        assert two is not None
        yield f"new file mode {git_mode(two)}\n"
    elif two is None:
        yield f"deleted file mode {git_mode(one)}\n"
    elif git_mode(one) != git_mode(two):
        yield f"old mode {git_mode(one)}\nnew mode {git_mode(two)}\n"
    if same or old is None or new is None:
        return
    hunks = list(
        difflib.unified_diff(old, new, _ended(a) if one else "/dev/null", _ended(b) if two else "/dev/null")
    )
    for line in hunks:
        yield line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"


def _ended(name: str) -> str:
    # A name with a blank ends with a tab in these two lines: so git does, and so its reader knows where it ends.
    return name + "\t" if " " in name and not name.startswith('"') else name


def _lines(node: Node | None, content: bytes | None) -> list[str] | None:
    """The lines of a text, or None for what is not shown as one."""
    if node is None:
        return []
    if content is None or b"\0" in content or len(content) > MAX_TEXT:
        return None
    text = content.decode("utf-8", "surrogateescape")
    # Only \n ends a line here; str.splitlines knows more ends.
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _directory(difference: Difference) -> str:
    path, one, two = quoted(difference.path + "/"), difference.before, difference.after
    if one is None:
        return f"directory added: {path}"
    if two is None:
        return f"directory removed: {path}"
    return f"directory mode {one.mode:o} -> {two.mode:o}: {path}"
