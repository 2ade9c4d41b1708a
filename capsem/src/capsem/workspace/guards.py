"""What of a directory a machine never gets, and what it never writes: names, by Capsule's own policies.

Pure. A machine is never sent what the policy denies; it never writes that, nor what the policy protects, nor a
repository of its own making below the directory's, with a `.git` or bare. Names that differ in case alone are held for
the same.

    guards = Guards("/home/u/project", "/home/u", [load_policy("workspace"), load_policy("secret-files")])
    guards.withheld("services/.env")               # 'denied by preset:secret-files:8'
    guards.unwritable(change)                      # why, or None
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from capsule.overlay.change import Change, Guard, guarded
from capsule.policy.glob import Pattern, Token, matches, split
from capsule.policy.model import Policy

PRESETS = ("workspace", "secret-files")
"""Whose names hold in any case."""
MADE = "a repository that the machine made: git would take its settings and hooks from there"
_MAKE_BARE = frozenset({"objects", "refs", "commondir"})
_RULE_BARE = frozenset({"config", "config.worktree", "hooks", "commondir", "worktrees", "modules"})


# Names whose ends are remembered; as many directories have most of theirs in common.
_REMEMBERED = 1 << 16


class _Ends:
    """What some of a path's names have to be, if any of these patterns covers it: the last name of one of them.

    So most paths need not be held against every pattern; those that may be covered are.

    Args:
        root: the directory's own path, absolute.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._all = False
        self._names: set[bytes] = set()
        self._globs: set[tuple[Token, ...]] = set()
        self._known: dict[str, bool] = {}

    def add(self, pattern: Pattern) -> None:
        """One more pattern."""
        self._known.clear()
        self._all = self._all or pattern.covers(self._root)
        last = pattern.tail[-1] if pattern.tail else None
        if last is None:
            self._names.update(pattern.anchor[-1:])
        elif all(isinstance(token, bytes) for token in last):
            self._names.add(b"".join(token for token in last if isinstance(token, bytes)))
        else:
            self._globs.add(last)

    def may_cover(self, path: str) -> bool:
        """Whether a path below the root has to be held against the patterns."""
        return self._all or any(map(self._is_one, path.split("/")))

    def _is_one(self, name: str) -> bool:
        if (known := self._known.get(name)) is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[name] = any(
                said in self._names or any(matches(glob, said) for glob in self._globs)
                for said in {text.encode("utf-8", "surrogateescape") for text in (name, name.lower())}
            )
        return known


class Guards:
    """The names of one directory.

    Args:
        root: the directory, absolute.
        home: the user's.
        policies: whose `deny` and `protect` hold, together.
    """

    def __init__(self, root: str, home: str, policies: Sequence[Policy]) -> None:
        self._root = root.rstrip("/")
        self._denied: list[tuple[Pattern, str]] = []
        self._kept: list[tuple[Pattern, str]] = []
        self._rows: tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]] = ([], [])
        self._ends = (_Ends(self._root), _Ends(self._root))
        seen: set[tuple[str, bool]] = set()
        for policy in policies:
            files = policy.sections.filesystem
            for entries, into, word in (
                (files.deny, self._denied, "denied"),
                (files.protect, self._kept, "protected"),
            ):
                for entry in entries.add:
                    why = f"{word} by {entry.origin.file}:{entry.origin.line}"
                    for anchor, tail in self._places(entry.path, home):
                        if (key := (f"{anchor}\0{tail}", into is self._denied)) not in seen:
                            seen.add(key)
                            self._add(into is self._kept, anchor, tail, why)

    def _add(self, kept: int, anchor: str, tail: str, why: str) -> None:
        pattern = Guard(anchor, tail, why).pattern()
        (self._denied, self._kept)[kept].append((pattern, why))
        self._ends[kept].add(pattern)
        self._rows[kept].append((anchor, tail, why))

    def _places(self, path: str, home: str) -> list[tuple[str, str]]:
        for word, anchor in (
            ("${workspace}", self._root),
            ("${cwd}", self._root),
            ("${home}", home.rstrip("/")),
        ):
            if path == word:
                return [(anchor, "")]
            if path.startswith(word + "/"):
                tail = path.removeprefix(word + "/")
                # What git runs in the directory's own repository, it runs in those below it, too.
                nested = [(anchor, "**/" + tail)] if tail.startswith(".git/") else []
                return [(anchor, tail), *nested]
        return [("/", path.lstrip("/"))] if path.startswith("/") else []

    def withheld(self, path: str) -> str | None:
        """Why a name is not sent, or None."""
        return self._covered(path, self._denied) if self._ends[0].may_cover(path) else None

    def kept(self, path: str) -> str | None:
        """Why a name is never changed, or None."""
        if not any(ends.may_cover(path) for ends in self._ends):
            return None
        return self._covered(path, [*self._denied, *self._kept])

    def leads(self, path: str) -> str | None:
        """Why the directory of that name is never moved or removed: a guarded name lies below it; or None."""
        segments = tuple(split(f"{self._root}/{path}"))
        for pattern, why in [*self._denied, *self._kept]:
            if pattern.anchor[: len(segments)] == segments:
                return f"it leads to a guarded name: {why}"
        return None

    def told(self) -> dict[str, object]:
        """All of it as plain values, for another process; `of_told` is the way back."""
        return {"root": self._root, "denied": self._rows[0], "kept": self._rows[1]}

    @classmethod
    def of_told(cls, told: Mapping[str, Any]) -> Self:
        """What `told` gave."""
        guards = cls(told["root"], "/", [])
        for which, rows in enumerate((told["denied"], told["kept"])):
            for anchor, tail, why in rows:
                guards._add(which, anchor, tail, why)
        return guards

    def _covered(self, path: str, patterns: Sequence[tuple[Pattern, str]]) -> str | None:
        name = f"{self._root}/{path}"
        folded = f"{self._root}/{path.lower()}"
        return next(
            (why for pattern, why in patterns if pattern.covers(name) or pattern.covers(folded)), None
        )

    def unwritable(self, change: Change, known: Collection[str]) -> str | None:
        """Why a change is never taken over, or None. `known` are the names that were sent."""
        patterns = [*self._denied, *self._kept]
        if why := self._covered(change.path, patterns) or guarded(self._root, change, patterns):
            return why
        if (
            change.before.kind == "directory"
            and change.after.kind != "directory"
            and self._holds_git(change.path, known)
        ):
            return "a repository lies there: another could be put in its place"
        parts = change.path.split("/")
        for place, part in enumerate(parts):
            if part.lower() == ".git" and "/".join(parts[: place + 1]) not in known:
                return MADE
        return None if change.after.kind == "absent" else _bare(change.path, known)

    @staticmethod
    def _holds_git(path: str, known: Collection[str]) -> bool:
        """Whether a directory is a repository, or one that was sent lies below it."""
        return path.lower().rpartition("/")[2] == ".git" or any(
            name.startswith(f"{path}/") and ".git" in name.lower().split("/") for name in known
        )


def _bare(path: str, known: Collection[str]) -> str | None:
    """Why a name would make a bare repository, or rule one that was sent; or None.

    A directory is one when it has a HEAD, and objects and refs of its own or where its commondir says
    (gitrepository-layout(5)). They can come one after the other, so the first is refused as the last is.
    """
    parts = path.split("/")
    if ".git" in path.lower().split("/"):
        return None
    for place, part in enumerate(parts):
        above = "".join(f"{one}/" for one in parts[:place])
        name, new = part.lower(), above + part not in known
        if name == "head" and new and place == len(parts) - 1:
            return MADE
        if f"{above}HEAD" not in known:
            continue
        if name in _MAKE_BARE and new:
            return MADE
        whole = f"{above}commondir" in known or (f"{above}objects" in known and f"{above}refs" in known)
        if name in _RULE_BARE and whole:
            return "git takes settings and hooks from there: it is a bare repository"
    return None
