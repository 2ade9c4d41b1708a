"""Typed reading of document nodes: words, numbers, lists and their edits, mappings with known keys.

Every reader returns None (or leaves an entry out) after noting a problem, so that one pass finds many of
them. What it refuses: guessing. A plain `no`, `010` or `1e3` where text is wanted has to be quoted.

    reader = NodeReader("capsule.yaml")
    edit = reader.edit(node, reader.path_entry, "filesystem.read")
    reader.finish()                      # raises PolicyError when anything was noted
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from capsule.errors import PolicyError, Problem, nearest_name
from capsule.policy.document import Mapping, Node, Scalar, Sequence, kind_of
from capsule.policy.model import Edit, Keyed, NameEntry, Origin, PathEntry, Setting
from capsule.policy.paths import PathError, parse_path
from capsule.policy.quantities import EXPECTED, nearest_quantity, parse_quantity

E = TypeVar("E", bound=Keyed)

MAX_PROBLEMS = 50

# What YAML 1.1 or 1.2 readers take for something other than text.
_AMBIGUOUS = re.compile(
    r"(?i:~|null|true|false|yes|no|on|off|y|n)|[-+]?[0-9][0-9_.,:]*([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+|[-+]?\.((?i:inf|nan)|[0-9]+)"
)


class NodeReader:
    """Reads nodes of one file and collects what is wrong with them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def origin(self, node: Node) -> Origin:
        """The place of a node."""
        return Origin(self.file, node.line, node.column)

    def refuse(
        self,
        node: Node,
        what: str,
        expected: str = "",
        *,
        nearest: str | None = None,
        next_step: str = "",
    ) -> None:
        """Note a problem at a node."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(
                Problem(self.file, node.line, node.column, what, expected, nearest, next_step)
            )

    def finish(self) -> None:
        """Raise what was noted.

        Raises:
            PolicyError: when there is at least one problem.
        """
        if self.problems:
            raise PolicyError(self.problems)

    def text(self, node: Node, subject: str, expected: str) -> str | None:
        """A word or sentence."""
        if not isinstance(node, Scalar) or (not node.text and not node.quoted):
            self.refuse(node, f"{subject} is {kind_of(node)}", expected)
            return None
        if not node.quoted and _AMBIGUOUS.fullmatch(node.text):
            self.refuse(
                node,
                f"{subject} is {node.text}, which is not text",
                expected,
                next_step=f'write "{node.text}" in quotes if that is the text you mean',
            )
            return None
        return node.text

    def word(self, node: Node, subject: str, known: Iterable[str]) -> str | None:
        """One of a few known words."""
        names = tuple(known)
        expected = "one of " + ", ".join(names)
        if isinstance(node, Scalar) and node.text in names:
            return node.text
        if isinstance(node, Scalar) and node.text:
            self.refuse(
                node, f"{subject} is {node.text[:80]!r}", expected, nearest=nearest_name(node.text, names)
            )
        else:
            self.refuse(node, f"{subject} is {kind_of(node)}", expected)
        return None

    def integer(self, node: Node, subject: str, low: int, high: int) -> int | None:
        """A whole number, decimal or 0x…; no octal, no underscores, no quotes."""
        expected = f"a whole number from {low} to {high}"
        if not isinstance(node, Scalar) or not node.text:
            self.refuse(node, f"{subject} is {kind_of(node)}", expected)
            return None
        if node.quoted:
            self.refuse(
                node, f"{subject} is the text {node.text[:40]!r}", expected, next_step="remove the quotes"
            )
            return None
        if re.fullmatch(r"0o?[0-7]+", node.text) and node.text != "0":
            self.refuse(
                node,
                f"{subject} is {node.text[:40]}, which may mean octal",
                expected,
                next_step="write it in decimal",
            )
            return None
        if not re.fullmatch(r"0|[1-9][0-9]{0,19}|0x[0-9a-fA-F]{1,16}", node.text):
            self.refuse(node, f"{subject} is {node.text[:40]!r}", expected)
            return None
        value = int(node.text, 0)
        if not low <= value <= high:
            self.refuse(node, f"{subject} is {node.text}", expected)
            return None
        return value

    def flag(self, node: Node, subject: str) -> bool:
        """`true` or `false`; `yes`, `no`, `on` and `off` are refused."""
        if isinstance(node, Scalar) and not node.quoted and node.text in {"true", "false"}:
            return node.text == "true"
        shown = repr(node.text[:40]) if isinstance(node, Scalar) and node.text else kind_of(node)
        self.refuse(node, f"{subject} is {shown}", "true or false")
        return False

    def fields(
        self,
        node: Node,
        subject: str,
        known: Iterable[str],
        *,
        reserved: dict[str, str] | None = None,
    ) -> Iterator[tuple[str, Node]]:
        """The entries of a mapping whose keys are known."""
        names = tuple(known)
        if not isinstance(node, Mapping):
            self.refuse(node, f"{subject} is {kind_of(node)}", "a mapping with " + ", ".join(names))
            return
        for key, value in node.entries:
            if key.text in names:
                yield key.text, value
            elif reserved and key.text in reserved:
                self.refuse(key, f"{subject}: {reserved[key.text]}", next_step=f"remove {key.text!r}")
            else:
                self.refuse(
                    key,
                    f"unknown key {key.text[:80]!r} in {subject}",
                    "one of " + ", ".join(names),
                    nearest=nearest_name(key.text, names),
                )

    def items(self, node: Node, subject: str) -> tuple[Node, ...]:
        """The items of a list."""
        if isinstance(node, Sequence):
            return node.items
        hint = f"write [{node.text[:80]}]" if isinstance(node, Scalar) and node.text else ""
        self.refuse(node, f"{subject} is {kind_of(node)}", "a list", next_step=hint)
        return ()

    def edit(
        self,
        node: Node,
        entry: Callable[[Node, str], E | None],
        subject: str,
        key: Callable[[Node], str] | None = None,
    ) -> Edit[E]:
        """A list, or `{replace: […]}`, or `{remove: […], add: […]}`.

        Args:
            node: what is written.
            entry: reads one entry of the list.
            subject: the dotted name of the list, for errors.
            key: how `remove` names an entry; by default as plain text.
        """
        if not isinstance(node, Mapping):
            return Edit(add=tuple(self._entries(node, entry, subject)))
        parts = dict(self.fields(node, subject, ("replace", "remove", "add")))
        if "replace" in parts and len(parts) > 1:
            self.refuse(
                node, f"{subject} has 'replace' beside another key", "'replace' alone, or 'remove' and 'add'"
            )
        if not parts:
            self.refuse(
                node, f"{subject} changes nothing", "a list, {replace: [...]} or {remove: [...], add: [...]}"
            )
        removed: list[NameEntry] = []
        for item in self.items(parts["remove"], f"{subject}.remove") if "remove" in parts else ():
            name = (
                key(item)
                if key is not None
                else (self.text(item, f"an entry of {subject}.remove", "an inherited entry") or "")
            )
            if name:
                removed.append(NameEntry(name, self.origin(item)))
        added = parts.get("replace", parts.get("add"))
        return Edit(
            add=tuple(self._entries(added, entry, subject)) if added is not None else (),
            remove=tuple(removed),
            replace="replace" in parts,
        )

    def _entries(self, node: Node, entry: Callable[[Node, str], E | None], subject: str) -> Iterator[E]:
        for item in self.items(node, subject):
            read = entry(item, subject)
            if read is not None:
                yield read

    def path(self, node: Node, subject: str, *, globs: bool) -> str | None:
        """A path in plan form."""
        text = self.text(node, f"an entry of {subject}", "a path")
        if text is None:
            return None
        try:
            return parse_path(text, globs=globs)
        except PathError as fault:
            self.refuse(node, fault.what, fault.expected, next_step=fault.next_step)
            return None

    def path_entry(
        self, node: Node, subject: str, *, globs: bool = False, optional: bool = True
    ) -> PathEntry | None:
        """A path, or `{path, optional, reason}`."""
        if not isinstance(node, Mapping):
            path = self.path(node, subject, globs=globs)
            return None if path is None else PathEntry(path, self.origin(node))
        known = ("path", "optional", "reason") if optional else ("path", "reason")
        parts = dict(self.fields(node, f"an entry of {subject}", known))
        if "path" not in parts:
            self.refuse(node, f"an entry of {subject} has no 'path'", "{path: …}")
            return None
        path = self.path(parts["path"], subject, globs=globs)
        if path is None:
            return None
        return PathEntry(
            path,
            self.origin(parts["path"]),
            self.flag(parts["optional"], "optional") if "optional" in parts else False,
            self.reason(parts),
        )

    def paths(
        self, node: Node, subject: str, *, globs: bool = False, optional: bool = True
    ) -> Edit[PathEntry]:
        """A list of paths, or its edits."""
        return self.edit(
            node,
            partial(self.path_entry, globs=globs, optional=optional),
            subject,
            lambda item: self.path(item, f"{subject}.remove", globs=globs) or "",
        )

    def quantity(self, node: Node, subject: str, kind: str) -> Setting[int | None] | None:
        """A size, duration, count or sum of money."""
        text = node.text if isinstance(node, Scalar) else ""
        shown = repr(text[:40]) if text else "no value" if isinstance(node, Scalar) else kind_of(node)
        try:
            return Setting(parse_quantity(text, kind), self.origin(node))
        except ValueError:
            self.refuse(
                node,
                f"{subject} is {shown}",
                EXPECTED[kind],
                nearest=nearest_quantity(text, kind),
            )
            return None

    def reason(self, parts: dict[str, Node]) -> str:
        """The optional `reason` of an entry, on one line."""
        text = self.text(parts["reason"], "reason", "a sentence") if "reason" in parts else None
        return " ".join((text or "").split())
