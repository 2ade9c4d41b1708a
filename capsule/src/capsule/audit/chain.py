"""The chain of blocks: headers, where a block ends, and the BLAKE3 digest that the next block names.

Refuses headers that are not byte for byte what `Header.render` writes, and blocks over 64 KiB.

    split(data, end=True)      # Block(...), or More, Torn, Malformed
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

CONTEXT: Final = "capsule audit-log v1 block"
START: Final = bytes(32)
MAX_ENTRIES: Final = 64 * 1024
MAX_HEADER: Final = 256
MAX_CHECKPOINT: Final = 4096
MAX_BLOCK: Final = MAX_HEADER + MAX_ENTRIES + MAX_CHECKPOINT
MAX_INTEGER: Final = 2**53 - 1
BLOCK: Final = b'{"block":'
"""What each block, and so each log, begins with."""
_NOTE = b'{"note":"'
_NUMBER = rb"(0|[1-9][0-9]{0,15})"
_HEADER = re.compile(
    rb'\{"block":' + _NUMBER + rb',"prev":"blake3:([0-9a-f]{64})","first":' + _NUMBER
    + rb',"count":' + _NUMBER + rb',"bytes":' + _NUMBER + rb"\}"
)  # fmt: skip


def digest(data: bytes) -> bytes:
    """The chain digest of `data`: 32 bytes."""
    return blake3(data, derive_key_context=CONTEXT).digest()


@dataclass(frozen=True, slots=True)
class Header:
    """The line that opens a block.

    Attributes:
        block: its number, from 0.
        prev: the digest of the block before.
        first: the seq of its first entry.
        count: how many entries it has.
        size: how many bytes they take, newlines included.
    """

    block: int
    prev: bytes
    first: int
    count: int
    size: int

    def render(self) -> bytes:
        """The line, with its newline."""
        return (
            f'{{"block":{self.block},"prev":"blake3:{self.prev.hex()}","first":{self.first},'
            f'"count":{self.count},"bytes":{self.size}}}\n'
        ).encode()


def parse_header(line: bytes) -> Header | None:
    """Read a header line without its newline; None for any other way of writing it."""
    found = _HEADER.fullmatch(line)
    if found is None:
        return None
    block, first, count, size = (int(found[group]) for group in (1, 3, 4, 5))
    if max(block, first, count) > MAX_INTEGER or count < 1 or not 2 <= size <= MAX_ENTRIES:
        return None
    return Header(block, bytes.fromhex(found[2].decode()), first, count, size)


@dataclass(frozen=True, slots=True)
class Block:
    """A block found at the beginning of some bytes: its header and the lengths of its parts.

    Attributes:
        header: the header, read.
        head: length of the header line.
        note: length of the checkpoint line, 0 when there is none.
    """

    header: Header
    head: int
    note: int

    @property
    def length(self) -> int:
        """The whole block's length in bytes."""
        return self.head + self.header.size + self.note

    def entries(self, block: bytes) -> bytes:
        """The entries within the block's bytes."""
        return block[self.head : self.head + self.header.size]

    def checkpoint(self, block: bytes) -> bytes | None:
        """The checkpoint line without its newline, if there is one."""
        return block[self.length - self.note : self.length - 1] if self.note else None


@dataclass(frozen=True, slots=True)
class More:
    """Too few bytes to tell; more follow."""


@dataclass(frozen=True, slots=True)
class Torn:
    """The beginning of a block, and the file ends within it."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not a block.

    Attributes:
        at: offset of what is wrong.
        why: what is wrong.
    """

    at: int
    why: str


Split = Block | More | Torn | Malformed


def split(data: bytes, *, end: bool) -> Split:
    """Find the block that `data` begins with. `end` says that the file ends with it."""
    short: Split = Torn() if end else More()
    line = data.find(b"\n", 0, MAX_HEADER)
    if line < 0:
        if len(data) < MAX_CHECKPOINT and data[: len(_NOTE)] == _NOTE[: len(data)] and b"\n" not in data:
            # A checkpoint line that was being added to the block before, when the writer died.
            return short
        if len(data) < MAX_HEADER and data[: len(BLOCK)] == BLOCK[: len(data)]:
            return short
        return Malformed(0, "a block header belongs here")
    header = parse_header(data[:line])
    if header is None:
        return Malformed(0, "not a block header")
    head, body = line + 1, line + 1 + header.size
    if len(data) < body:
        return short
    if data[body - 1] != 0x0A:
        return Malformed(body - 1, "the block's bytes do not end with a line")
    if len(data) - body < len(_NOTE) and not end:
        return More()
    if not data.startswith(_NOTE, body):
        return Block(header, head, 0)
    tail = data.find(b"\n", body, body + MAX_CHECKPOINT)
    if tail >= 0:
        return Block(header, head, tail + 1 - body)
    if len(data) - body >= MAX_CHECKPOINT:
        return Malformed(body, "a checkpoint line too long")
    # The entries are whole: only the checkpoint line is torn, and the next call says so.
    return Block(header, head, 0) if end else More()
