"""A tree of files as a stream of bytes, read: ustar's and GNU's tar, every byte hostile (docs/formats/workspace.md).

Pure, and bounded: what is kept is one header, one long name, and the names that came. Refuses absolute names, `..`, a
name twice, a name whose directory did not come before it, hard links, sparse files, pax headers, names and targets
that are too long, a size or a number that is none, bytes after the end, an end that does not come; and more than
`Limits` in names, bytes or depth. Devices, FIFOs and the set-user-id bits come out as what they are (`special`,
`dropped`), never to be made.

    reader = ArchiveReader(Limits())
    for piece in reader.feed(untrusted_data): ...          # Member, then the bytes of a file
    reader.finish()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from capsem.errors import WireError

BLOCK = 512
NAME_LIMIT, PATH_LIMIT, TARGET_LIMIT = 255, 4095, 4095
"""Bytes of one name, of a path, of where a link points: the kernel's own bounds."""
_TAIL_LIMIT = 1 << 20
"""Zero bytes that may follow the end: writers fill their last record."""
_TIME_LIMIT = 1 << 34
_LONG = {b"L": "name", b"K": "target"}
_KINDS: dict[bytes, Kind] = {b"0": "file", b"\0": "file", b"7": "file", b"5": "directory", b"2": "link"}
_SPECIAL = {b"3": "device", b"4": "device", b"6": "FIFO"}
_REFUSED = {b"1": "a hard link", b"S": "a sparse file", b"x": "a pax header", b"g": "a pax header for all"}

Kind = Literal["file", "directory", "link", "special"]


class ArchiveError(WireError):
    """An archive is not of the documented form, or over a limit; nothing of it counts."""

    def __init__(
        self, message: str, next_step: str = "nothing was kept; look at it with capsem shell"
    ) -> None:
        super().__init__(message, next_step=next_step)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may have at most.

    Attributes:
        names: files, directories and links.
        size: bytes of all files.
        depth: directories above a name.
        text: bytes of all names and targets.
        folds: refuse names that differ in case alone, for a file system that takes them for one.
    """

    names: int = 500_000
    size: int = 16 << 30
    depth: int = 128
    text: int = 64 << 20
    folds: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """One name.

    Attributes:
        path: below the root, `/` between; undecodable bytes as surrogates; empty for the root itself.
        kind: what it is; `special` is not to be made.
        mode: permission bits, at most 0777.
        mtime: seconds since 1970.
        size: bytes that follow, of a file.
        target: of a link.
        what: of a special file, its kind in words.
        dropped: set-user-id, set-group-id and sticky bits that it had.
    """

    path: str
    kind: Kind
    mode: int = 0o644
    mtime: int = 0
    size: int = 0
    target: str = ""
    what: str = ""
    dropped: int = 0


def parts_of(untrusted_path: str) -> tuple[str, ...]:
    """The names of a path in an archive; none for the root.

    Raises:
        ArchiveError: it is absolute, has `..`, an empty name, or one that is too long.
    """
    path = untrusted_path.removesuffix("/")
    if path in {"", "."}:
        if untrusted_path in {".", "./"}:
            return ()
        raise ArchiveError(f"the name {untrusted_path[:80]!r} is none")
    if path.startswith("/"):
        raise ArchiveError(f"the absolute name {path[:80]!r}")
    parts = tuple(path.removeprefix("./").split("/"))
    for part in parts:
        if part in {"", ".", ".."} or "\0" in part:
            raise ArchiveError(f"the name {path[:80]!r} has a part {part!r}")
        if len(part) > NAME_LIMIT // 4 and len(part.encode("utf-8", "surrogateescape")) > NAME_LIMIT:
            raise ArchiveError(f"a name of more than {NAME_LIMIT} bytes: {part[:80]!r}")
    return parts


def leads_out(path: str, target: str) -> bool:
    """Whether a link may lead out of the root, also over other links that do not.

    `..` counts only at the beginning, where what it leaves is a directory; behind a name it could leave a link.
    """
    if target.startswith("/"):
        return True
    parts = [part for part in target.split("/") if part not in {"", "."}]
    ups = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
    return ups > path.count("/") or ".." in parts[ups:]


def number(untrusted: bytes) -> int:
    """A number field: octal digits, or GNU's binary form.

    Raises:
        ArchiveError: it is neither, or negative.
    """
    if untrusted[0] == 0x80:
        return int.from_bytes(untrusted[1:], "big")
    if untrusted[0] == 0xFF:
        return int.from_bytes(untrusted, "big") - (1 << (8 * len(untrusted)))
    digits = untrusted.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise ArchiveError(f"the number {untrusted!r} is none")
    return int(digits, 8)


def _text(untrusted: bytes) -> str:
    return untrusted.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


class ArchiveReader:
    """Bytes in, members and contents out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._left = 0  # of the content at hand
        self._filling = 0  # bytes after it, to a whole block
        self._long: dict[str, str] = {}
        self._zeros = 0  # blocks of zeros that came in a row
        self._over = False
        self._names: dict[str, bool] = {}  # whether it is a directory
        self._folded: set[str] = set()
        self._size = self._said = 0
        self._rooted = False
        self._pending: tuple[str, int] | None = None  # which long text comes now, and its length

    @property
    def names(self) -> int:
        """How many names have come."""
        return len(self._names)

    @property
    def size(self) -> int:
        """Bytes of the files that have come or been announced."""
        return self._size

    def feed(self, untrusted_data: bytes) -> list[Member | bytes]:
        """What `untrusted_data` brings, in order; a file's bytes follow it in pieces.

        Raises:
            ArchiveError: see the module.
        """
        found: list[Member | bytes] = []
        view = memoryview(untrusted_data)
        while view:
            if self._left:
                piece = view[: self._left]
                self._left -= len(piece)
                found.append(bytes(piece))
                view = view[len(piece) :]
            elif self._filling:
                piece = view[: self._filling]
                self._filling -= len(piece)
                view = view[len(piece) :]
            elif self._over:
                self._tail(view)
                break
            else:
                view = self._head(view, found)
        return found

    def _head(self, view: memoryview, found: list[Member | bytes]) -> memoryview:
        wanted = self._wanted - len(self._buffer)
        self._buffer += view[:wanted]
        if len(self._buffer) == self._wanted:
            block, self._buffer = bytes(self._buffer), bytearray()
            if self._pending:
                self._take_long(block)
            elif (member := self._header(block)) is not None:
                found.append(member)
        return view[wanted:]

    @property
    def _wanted(self) -> int:
        return BLOCK if self._pending is None else -(-self._pending[1] // BLOCK) * BLOCK

    def _tail(self, view: memoryview) -> None:
        self._zeros += len(view)
        if bytes(view).strip(b"\0"):
            raise ArchiveError("bytes after the end of the archive")
        if self._zeros > _TAIL_LIMIT:
            raise ArchiveError("zeros without end after the end of the archive")

    def _take_long(self, content: bytes) -> None:
        assert self._pending is not None
        which, size = self._pending
        self._pending = None
        text, rest = content[: size - 1], content[size - 1 :]
        if b"\0" in text or rest.strip(b"\0"):
            raise ArchiveError("a long name that does not end where it says")
        self._long[which] = text.decode("utf-8", "surrogateescape")

    def _header(self, block: bytes) -> Member | None:
        if not block.strip(b"\0"):
            self._zeros += 1
            if self._long:
                raise ArchiveError("a long name of nothing")
            self._over = self._zeros == 2
            return None
        if self._zeros:
            raise ArchiveError("a member after an empty block")
        if number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise ArchiveError("a header whose checksum is wrong")
        if block[257:262] != b"ustar":
            raise ArchiveError("a header that is not ustar's or GNU's")
        size, flag = number(block[124:136]), block[156:157]
        if size < 0:
            raise ArchiveError("a negative size")
        if flag in _LONG:
            which = _LONG[flag]
            if which in self._long or not 2 <= size <= PATH_LIMIT + 2:
                raise ArchiveError(f"a long {which} of {size} bytes, or a second one")
            self._pending = (which, size)
            return None
        return self._member(block, flag, size)

    def _member(self, block: bytes, flag: bytes, size: int) -> Member | None:
        if flag in _REFUSED or not (flag in _KINDS or flag in _SPECIAL):
            raise ArchiveError(
                f"{_REFUSED.get(flag, f'a member of the unknown kind {flag!r}')}, which is never taken"
            )
        kind = _KINDS.get(flag, "special")
        name, target = _text(block[:100]), _text(block[157:257])
        if block[257:263] == b"ustar\0" and block[345]:
            name = f"{_text(block[345:500])}/{name}"
        name, target = self._long.pop("name", name), self._long.pop("target", target)
        if kind != "file" and size:
            raise ArchiveError(f"{name[:80]!r}: a {kind} with content")
        parts = parts_of(name)
        path = "/".join(parts)
        self._admit(path, parts, kind, size, target)
        mtime = number(block[136:148])
        if not -_TIME_LIMIT < mtime < _TIME_LIMIT:
            raise ArchiveError(f"{path[:80]!r}: a time of {mtime} s")
        bits = number(block[100:108])
        self._left, self._filling = size, -size % BLOCK
        return Member(
            path, kind, bits & 0o777, mtime, size, target if kind == "link" else "", _SPECIAL.get(flag, ""),
            bits & 0o7000,
        )  # fmt: skip

    def _admit(self, path: str, parts: tuple[str, ...], kind: Kind, size: int, target: str) -> None:
        limits = self._limits
        self._size += size
        self._said += len(path) + len(target)
        if not parts:
            if kind != "directory" or self._rooted or self._names:
                raise ArchiveError("the root comes once, first, and is a directory")
            self._rooted = True
            return
        if path in self._names:
            raise ArchiveError(f"the name {path[:80]!r} came twice")
        if len(parts) > 1 and not self._names.get(path[: -len(parts[-1]) - 1], False):
            raise ArchiveError(f"the name {path[:80]!r} came before its directory")
        if kind == "link" and not (0 < len(target.encode("utf-8", "surrogateescape")) <= TARGET_LIMIT):
            raise ArchiveError(f"{path[:80]!r}: a link to a place of {len(target)} characters")
        for what, count, most in (
            ("names", len(self._names) + 1, limits.names), ("bytes", self._size, limits.size),
            ("directories above a name", len(parts) - 1, limits.depth), ("bytes of names", self._said, limits.text),
            ("bytes in a path", len(path), PATH_LIMIT),
        ):  # fmt: skip
            if count > most:
                raise ArchiveError(
                    f"the tree has more than {most} {what}", next_step="copy a part of it, or less at once"
                )
        if limits.folds:
            folded = path.casefold()
            if folded in self._folded:
                raise ArchiveError(
                    f"the name {path[:80]!r} differs from another in case alone, and here they are one"
                )
            self._folded.add(folded)
        self._names[path] = kind == "directory"

    def finish(self) -> None:
        """The stream is over.

        Raises:
            ArchiveError: the archive is not.
        """
        if not self._over or self._left or self._filling:
            raise ArchiveError("the archive broke off before its end")
