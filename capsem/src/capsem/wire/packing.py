r"""A tree of files as a stream of bytes, written: headers that `capsem.wire.archive` and any tar take.

Pure. Refuses a member that the reader would refuse: a name that is absolute or too long, a size out of bounds.

    header(Member("src/a.py", "file", 0o644, 1767225600, 3)) + b"x\n" + padding(3) + END
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from capsem.wire.archive import BLOCK, PATH_LIMIT, TARGET_LIMIT, Member, parts_of

END = bytes(2 * BLOCK)
"""What ends an archive."""
_FLAGS = {"file": b"0", "directory": b"5", "link": b"2"}


def pieces(members: Iterable[tuple[Member, Iterable[bytes]]], size: int) -> Iterator[bytes]:
    """A whole archive in pieces of about `size` bytes: each member with its content, which is asked for in its turn."""
    held = bytearray()
    for member, content in members:
        held += header(member)
        for data in content:
            held += data
            if len(held) >= size:
                yield bytes(held)
                held.clear()
        held += padding(member.size if member.kind == "file" else 0)
    yield bytes(held) + END


def padding(size: int) -> bytes:
    """What follows a content of `size` bytes."""
    return bytes(-size % BLOCK)


def header(member: Member) -> bytes:
    """What stands before a member's content.

    Raises:
        ArchiveError: its name is none.
        ValueError: it cannot be in an archive.
    """
    if member.kind not in _FLAGS:
        raise ValueError(f"{member.path!r} is a {member.what or member.kind}")
    parts = parts_of(member.path or ".")
    name = b"./" + "/".join(parts).encode("utf-8", "surrogateescape")
    target = member.target.encode("utf-8", "surrogateescape")
    if len(name) > PATH_LIMIT or len(target) > TARGET_LIMIT or b"\0" in target or member.size < 0:
        raise ValueError(f"{member.path[:80]!r} is too long, or its target is")
    if member.kind == "directory" and parts:
        name += b"/"
    long = _long(b"L", name) + _long(b"K", target)
    return long + _block(
        name, _FLAGS[member.kind], member.mode & 0o777, member.size if member.kind == "file" else 0,
        member.mtime, target,
    )  # fmt: skip


def _long(flag: bytes, text: bytes) -> bytes:
    if len(text) <= 100:
        return b""
    size = len(text) + 1
    return _block(b"././@LongLink", flag, 0o644, size, 0, b"") + text + b"\0" + padding(size)


def _block(name: bytes, flag: bytes, mode: int, size: int, mtime: int, target: bytes) -> bytes:  # noqa: PLR0917
    block = b"".join((
        name[:100].ljust(100, b"\0"), b"%07o\0" % mode, b"%07o\0" % 0, b"%07o\0" % 0, _number(size), _number(mtime),
        b" " * 8, flag, target[:100].ljust(100, b"\0"), b"ustar  \0", bytes(BLOCK - 265),
    ))  # fmt: skip
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _number(value: int) -> bytes:
    if 0 <= value < 8**11:
        return b"%011o\0" % value
    if value < 0:
        return (value + (1 << 96)).to_bytes(12, "big")
    return b"\x80" + value.to_bytes(11, "big")
