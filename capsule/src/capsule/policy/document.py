"""Policy bytes → a tree of scalars, sequences and mappings, each with its place.

Only the plainest YAML 1.2 is read. Refused, each with a clear error: anchors and aliases (so no bombs), tags,
directives, several documents, tabs, byte order marks, non-UTF-8, invisible direction marks, duplicate keys,
keys that are not plain words, nesting deeper than 16, files over 256 KiB.

    read_document(b"version: 1", "capsule.yaml")   # Mapping(((Scalar('version'), Scalar('1')),))
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from capsule.errors import PolicyError, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 20_000
MAX_LIST = 4096
MAX_TEXT = 4096

_BOMS = (b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")
# C0 and C1 controls, line separators that YAML 1.1 and 1.2 disagree about, and marks that make
# a reviewer see another text than the parser does.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as written. `quoted` is False for a plain one."""

    text: str
    quoted: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping; keys are unique and in the order of the file."""

    entries: tuple[tuple[Scalar, Node], ...]
    line: int
    column: int


Node = Scalar | Sequence | Mapping


def kind_of(node: Node) -> str:
    """What a person would call this node."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    return "nothing" if not node.text and not node.quoted else "a single value"


def read_document(data: bytes, file: str) -> Mapping:
    """The one mapping in `data`.

    Args:
        data: the bytes of the file, untrusted.
        file: the name to use in errors.

    Raises:
        PolicyError: with the place of the first thing that is not plain YAML.
    """
    text = _decode(data, file)
    reader = _TreeReader(file)
    try:
        root = reader.read(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(part) for part in (error.problem or error.context or "unreadable").split())
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise PolicyError([_not_yaml(file, line, column, what)]) from None
    except (
        YAMLError,
        YAMLStreamError,
        ValueError,
        OverflowError,
        AssertionError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        # The library has a few inputs for which it raises something of its own making.
        raise PolicyError([_not_yaml(file, 1, 1, type(error).__name__)]) from None
    if not isinstance(root, Mapping):
        raise PolicyError(
            [
                Problem(
                    file,
                    root.line,
                    root.column,
                    f"the file holds {kind_of(root)}",
                    "a mapping that begins with 'version: 1'",
                )
            ]
        )
    return root


def _not_yaml(file: str, line: int, column: int, what: str) -> Problem:
    return Problem(
        file,
        line,
        column,
        f"this is not YAML: {what[:200]}",
        next_step="check indentation, colons and quotes here",
    )


def _decode(data: bytes, file: str) -> str:
    def refuse(offset: int, what: str, next_step: str) -> NoReturn:
        line = data.count(b"\n", 0, offset) + 1
        column = len(data[data.rfind(b"\n", 0, offset) + 1 : offset].decode("utf-8", "replace")) + 1
        raise PolicyError([Problem(file, line, column, what, next_step=next_step)])

    if len(data) > MAX_BYTES:
        refuse(
            0,
            f"the file is longer than {MAX_BYTES >> 10} KiB ({MAX_BYTES} bytes)",
            "split it and use 'extends'",
        )
    if data.startswith(_BOMS):
        refuse(0, "the file begins with a byte order mark", "save it as UTF-8 without one")
    data = data.replace(b"\r\n", b"\n")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(error.start, f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8")
    tab = data.find(b"\t")
    if tab >= 0:
        refuse(tab, "a tab", "indent and separate with spaces")
    unseen = _UNSEEN.search(text)
    if unseen is not None:
        offset = len(text[: unseen.start()].encode())
        refuse(offset, f"the invisible character U+{ord(unseen.group()):04X}", "remove it")
    if not text.strip():
        refuse(0, "the file is empty", "begin with 'version: 1' and 'extends: [workspace]'")
    return text


class _TreeReader:
    """Builds the tree from parser events, so that depth and count are capped while reading."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.nodes = 0

    def refuse(self, event: Any, what: str, *, expected: str = "", next_step: str = "") -> NoReturn:
        mark = event.start_mark
        raise PolicyError(
            [Problem(self.file, mark.line + 1, mark.column + 1, what, expected, None, next_step)]
        )

    def read(self, text: str) -> Node:
        yaml = YAML(typ="safe", pure=True)
        events: Iterator[Any] = iter(yaml.parse(text))
        root: Node | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if event.version or event.tags:
                    self.refuse(event, "a YAML directive", next_step="remove the line that begins with '%'")
                if root is not None:
                    self.refuse(
                        event,
                        "a second document",
                        next_step="keep one document in a file and remove this '---'",
                    )
                root = self.node(next(events), events, 1)
            elif isinstance(event, StreamEndEvent):
                break
        if root is None:
            raise PolicyError(
                [Problem(self.file, 1, 1, "the file is empty", next_step="begin with 'version: 1'")]
            )
        return root

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.refuse(event, f"more than {MAX_NODES} values", next_step="split the file and use 'extends'")
        if isinstance(event, AliasEvent):
            self.refuse(
                event, "an alias (*)", next_step="write the value out; aliases are not used in policies"
            )
        if event.anchor is not None:
            self.refuse(
                event, "an anchor (&)", next_step="write the value out; anchors are not used in policies"
            )
        if event.tag is not None:
            self.refuse(
                event,
                f"the tag {str(event.tag)[:40]!r}",
                next_step="remove it; quote the value if it is text",
            )
        if depth > MAX_DEPTH:
            self.refuse(
                event, f"nesting deeper than {MAX_DEPTH}", next_step="nothing in a policy is that deep"
            )
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, ScalarEvent):
            text = event.value
            if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT:
                self.refuse(event, f"a value longer than {MAX_TEXT} bytes")
            unseen = _UNSEEN.search(text.replace("\n", ""))
            if unseen is not None or any("\ud800" <= char <= "\udfff" for char in text):
                self.refuse(
                    event, "a value with a control or surrogate character", next_step="remove the escape"
                )
            return Scalar(text, bool(event.style), line, column)
        if isinstance(event, SequenceStartEvent):
            return Sequence(tuple(self.items(events, depth)), line, column)
        assert isinstance(event, MappingStartEvent)  # the grammar has no other node
        return Mapping(tuple(self.entries(events, depth)), line, column)

    def items(self, events: Iterator[Any], depth: int) -> Iterator[Node]:
        count = 0
        while not isinstance(event := next(events), SequenceEndEvent):
            count += 1
            if count > MAX_LIST:
                self.refuse(
                    event,
                    f"more than {MAX_LIST} entries in a list",
                    next_step="use patterns, or grant a directory",
                )
            yield self.node(event, events, depth + 1)

    def entries(self, events: Iterator[Any], depth: int) -> Iterator[tuple[Scalar, Node]]:
        seen: dict[str, int] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            key = self.node(event, events, depth + 1)
            if not isinstance(key, Scalar):
                self.refuse(event, f"{kind_of(key)} as a key", expected="a word")
            if key.text in seen:
                self.refuse(
                    event,
                    f"the key {key.text!r} is written twice",
                    next_step=f"merge it with line {seen[key.text]}",
                )
            seen[key.text] = key.line
            yield key, self.node(next(events), events, depth + 1)
