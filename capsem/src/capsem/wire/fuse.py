"""What a guest's kernel asks of a file system and what it is answered: FUSE 7.31, one request after the other.

Pure. Refuses a request whose length is not its header's, one longer than `LARGEST`, fields that are cut off, and names
that are none: a slash, `.`, `..`, nothing, or more than 255 bytes. Who asks is a guest: every value in it is hostile.

    size = length(data[:4])                       # bytes of the request that begins there
    request = parse(data)                         # Request(LOOKUP, unique=3, node=1, body=b"src" and a zero)
    answer(request.unique, entry(Entry(2, attributes)))
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from capsem.wire.frame import FrameError

MAJOR, MINOR, LEAST_MINOR = 7, 31, 31
ROOT = 1
HEADER, ANSWER = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
WRITE_LIMIT = 128 << 10
"""Bytes of one read or write."""
LARGEST = WRITE_LIMIT + 4096
NAME_LIMIT = 255
_ASYNC_READ, _TRUNCATES, _BIG_WRITES, _INVALIDATES = 1 << 0, 1 << 3, 1 << 5, 1 << 12
_PLUS, _PARALLEL, _MAX_PAGES = 1 << 13, 1 << 18, 1 << 22
# Every listing tells what its names are, also where the kernel would guess that nobody asks (READDIRPLUS_AUTO): a
# question for each of them afterwards costs far more than the few answers more.
_WANTED = _ASYNC_READ | _TRUNCATES | _BIG_WRITES | _INVALIDATES | _PLUS | _PARALLEL | _MAX_PAGES
_INIT = struct.Struct("<IIII")
_INITIALISED = struct.Struct("<IIIIHHIIHHI28x")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_VALID = struct.Struct("<QII")
_OPENED = struct.Struct("<QII")
_DIRENT = struct.Struct("<QQII")
LISTING_OVERHEAD = _ENTRY.size + _ATTRIBUTES.size
_STATFS = struct.Struct("<QQQQQIIII24x")


class Op(enum.IntEnum):
    """What is asked for; the kernel's numbers (include/uapi/linux/fuse.h)."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44
    RENAME2 = 45


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        op: what for; a number that is no `Op` is one nobody here knows.
        unique: its number, which the answer repeats.
        node: the file it is about.
        body: what follows the header.
    """

    op: int
    unique: int
    node: int
    body: bytes

    def fields(self, form: struct.Struct) -> tuple[int, ...]:
        """The numbers at the beginning of the body.

        Raises:
            FrameError: there are not that many.
        """
        if len(self.body) < form.size:
            raise FrameError(f"request {self.op} with {len(self.body)} bytes; {form.size} belong to it")
        found: tuple[int, ...] = form.unpack_from(self.body)
        return found

    def names(self, form: struct.Struct | None = None, count: int = 1) -> tuple[str, ...]:
        """The names behind the numbers.

        Raises:
            FrameError: there are not that many, or one is none.
        """
        pieces = self.body[0 if form is None else form.size :].split(b"\0")
        if len(pieces) != count + 1 or pieces[-1]:
            raise FrameError(f"request {self.op} without its {count} names")
        return tuple(_name(piece) for piece in pieces[:-1])

    def link(self) -> tuple[str, bytes]:
        """The name of a link that is to be made, and where it leads.

        Raises:
            FrameError: one of them is missing, or is none.
        """
        name, _, rest = self.body.partition(b"\0")
        target, ended, more = rest.partition(b"\0")
        if not ended or more:
            raise FrameError(f"request {self.op} without its name and its target")
        return _name(name), target


def _name(untrusted: bytes) -> str:
    if untrusted in {b"", b".", b".."} or b"/" in untrusted or len(untrusted) > NAME_LIMIT:
        raise FrameError(f"a name that is none: {untrusted[:40]!r}")
    return untrusted.decode("utf-8", "surrogateescape")


def length(start: bytes) -> int:
    """Bytes of the request that begins with these four.

    Raises:
        FrameError: no request is that long.
    """
    size = int.from_bytes(start[:4], "little")
    if not HEADER.size <= size <= LARGEST:
        raise FrameError(f"a request of {size} bytes; from {HEADER.size} to {LARGEST} are allowed")
    return size


def parse(untrusted: bytes) -> Request:
    """A whole request.

    Raises:
        FrameError: it is none.
    """
    if len(untrusted) < HEADER.size or length(untrusted) != len(untrusted):
        raise FrameError(f"{len(untrusted)} bytes are no request")
    _, op, unique, node, *_ = HEADER.unpack_from(untrusted)
    return Request(op, unique, node, untrusted[HEADER.size :])


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a file is, as the guest is shown it; times in nanoseconds since 1970."""

    inode: int
    size: int
    blocks: int
    accessed: int
    modified: int
    changed: int
    mode: int
    links: int

    def packed(self) -> bytes:
        """As the kernel takes it; everything is root's there, who asks as well."""
        times = (self.accessed, self.modified, self.changed)
        return _ATTRIBUTES.pack(
            self.inode, self.size, self.blocks, *(max(0, one) // 10**9 for one in times),
            *(max(0, one) % 10**9 for one in times), self.mode, self.links, 0, 0, 0, 4096, 0,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A name that was found: the node it is from now on, and what it is; `seconds` is how long that may be believed."""

    node: int
    attributes: Attributes
    seconds: int = 1


def answer(unique: int, body: bytes = b"") -> bytes:
    """It was done."""
    return ANSWER.pack(ANSWER.size + len(body), 0, unique) + body


def refusal(unique: int, number: int) -> bytes:
    """It was not; `number` is an errno."""
    return ANSWER.pack(ANSWER.size, -number, unique)


def agreed(request: Request) -> bytes:
    """The answer to the first request, with which both sides know what the other can.

    Raises:
        FrameError: the kernel speaks another protocol.
    """
    major, minor, ahead, flags = request.fields(_INIT)
    if major != MAJOR or minor < LEAST_MINOR:
        raise FrameError(f"FUSE {major}.{minor}; {MAJOR}.{LEAST_MINOR} or later is needed")
    return answer(
        request.unique,
        _INITIALISED.pack(
            MAJOR, MINOR, min(ahead, WRITE_LIMIT), flags & _WANTED, 16, 12, WRITE_LIMIT, 1,
            WRITE_LIMIT // 4096, 0, 0,
        ),
    )  # fmt: skip


def entry(found: Entry) -> bytes:
    """A name that was found."""
    return _ENTRY.pack(found.node, 0, found.seconds, found.seconds, 0, 0) + found.attributes.packed()


def attributes(found: Attributes, seconds: int = 1) -> bytes:
    """What a file is."""
    return _VALID.pack(seconds, 0, 0) + found.packed()


def opened(handle: int) -> bytes:
    """An open file."""
    return _OPENED.pack(handle, 0, 0)


def written(size: int) -> bytes:
    """Bytes that were taken."""
    return struct.pack("<II", size, 0)


def space(blocks: int, free: int, files: int, free_files: int) -> bytes:
    """How much there is, in blocks of 4096 bytes."""
    return _STATFS.pack(blocks, free, free, files, free_files, 4096, NAME_LIMIT, 4096, 0)


def listing(
    names: Iterable[tuple[str, int, int]], after: int, limit: int, find: Callable[[str], Entry | None] | None
) -> bytes:
    """Names of a directory, as many as fit.

    Args:
        names: with inode and mode.
        after: the place of the first.
        limit: bytes.
        find: what a name is, which is told with it; None: names alone are told. Not asked for what does not fit.
    """
    told = bytearray()
    for place, (name, inode, mode) in enumerate(names, after + 1):
        raw = name.encode("utf-8", "surrogateescape")
        size = (0 if find is None else LISTING_OVERHEAD) + _DIRENT.size + len(raw)
        size += -size % 8
        if len(told) + size > limit:
            break
        end = len(told) + size
        if find is not None:
            told += bytes(LISTING_OVERHEAD) if (found := find(name)) is None else entry(found)
        told += _DIRENT.pack(inode, place, len(raw), mode >> 12 & 0o17) + raw
        told += bytes(end - len(told))
    return bytes(told)


GETATTR = struct.Struct("<IIQ")
SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")
OPEN = struct.Struct("<II")
CREATE = struct.Struct("<IIII")
READ = struct.Struct("<QQIIQII")
WRITE = struct.Struct("<QQIIQII")
RELEASE = struct.Struct("<QIIQ")
MKNOD = struct.Struct("<IIII")
MKDIR = struct.Struct("<II")
LINK = struct.Struct("<Q")
RENAME = struct.Struct("<Q")
RENAME2 = struct.Struct("<QII")
FSYNC = struct.Struct("<QII")
FORGET = struct.Struct("<Q")
BATCH = struct.Struct("<II")
FORGOTTEN = struct.Struct("<QQ")


def forgotten(request: Request) -> list[tuple[int, int]]:
    """Nodes that the guest's kernel forgot, and how often it had been told of each.

    Raises:
        FrameError: there are fewer than it says.
    """
    if request.op == Op.FORGET:
        return [(request.node, request.fields(FORGET)[0])]
    count = request.fields(BATCH)[0]
    rest = request.body[BATCH.size :]
    if len(rest) != count * FORGOTTEN.size:
        raise FrameError(f"{count} forgotten nodes in {len(rest)} bytes")
    return [(node, times) for node, times in FORGOTTEN.iter_unpack(rest)]
