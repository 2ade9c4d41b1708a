"""The reader of a guest's archives as a target: bytes → names within their bounds, or `ArchiveError`.

fuzz(ARCHIVE, seed=1, inputs=1000, seconds=5)
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Hashable, Iterable

from capsem.wire.archive import ArchiveError, ArchiveReader, Limits, Member, leads_out
from tests.fuzz.engine import Target

_LIMITS = Limits(names=50, size=20_000, depth=4, text=5000)
_PLACE = re.compile(r"[0-9]+|'[^']*'|b'[^']*'")


def _seed(*members: tuple[str, bytes, int, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, size, target in members:
            one = tarfile.TarInfo(name)
            one.type, one.size, one.linkname = kind, size, target
            archive.addfile(one, io.BytesIO(b"x" * size) if size else None)
    content = out.getvalue().rstrip(b"\0")  # the last record's filling says nothing
    return content + bytes(-len(content) % 512 + 1024)


SEEDS = (
    _seed(
        ("./", tarfile.DIRTYPE, 0, ""), ("./d", tarfile.DIRTYPE, 0, ""), ("./d/a", tarfile.REGTYPE, 700, "")
    ),
    _seed(
        ("n" * 150, tarfile.REGTYPE, 3, ""),
        ("l", tarfile.SYMTYPE, 0, "t" * 200),
        ("f", tarfile.FIFOTYPE, 0, ""),
    ),
    _seed(("a", tarfile.REGTYPE, 1, ""), ("b", tarfile.LNKTYPE, 0, "a"), ("c", tarfile.CHRTYPE, 0, "")),
)


def repaired(data: bytes, number: int) -> bytes:
    """Three in four get right checksums: no change would pass otherwise."""
    if number == 0:
        return data
    whole = bytearray(data)
    for start in range(0, len(whole) - 511, 512):
        block = whole[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            whole[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(whole)


def _read(data: bytes, step: int) -> list[Member | bytes]:
    reader = ArchiveReader(_LIMITS)
    found = [piece for at in range(0, len(data), step) for piece in reader.feed(data[at : at + step])]
    reader.finish()
    return found


def check(data: bytes) -> Iterable[Hashable]:
    """Read `data`, whole and in pieces; what is read keeps every bound."""
    try:
        found = _read(data, 1 << 20)
    except ArchiveError as error:
        return (_PLACE.sub("", error.message)[:80],)
    members = [piece for piece in found if isinstance(piece, Member)]
    assert [piece for piece in _read(data, 333) if isinstance(piece, Member)] == members, "pieces change it"
    directories = {""} | {one.path for one in members if one.kind == "directory"}
    assert len({one.path for one in members}) == len(members) <= _LIMITS.names + 1
    assert sum(len(piece) for piece in found if isinstance(piece, bytes)) == sum(one.size for one in members)
    for one in members:
        assert not {"", ".", ".."} & set(one.path.split("/")) or one.path == "", one.path
        assert one.path.rpartition("/")[0] in directories, "below what is no directory"
        assert 0 <= one.mode <= 0o777
        assert one.kind == "file" or one.size == 0
        assert one.kind == "link" or not one.target
    return tuple((one.kind, one.dropped != 0, leads_out(one.path, one.target)) for one in members)


ARCHIVE = Target(
    "archive",
    check,
    SEEDS,
    ("capsem/wire/archive.py",),
    (
        b"..",
        b"/",
        b"./",
        b"\0",
        b"0",
        b"1",
        b"2",
        b"5",
        b"L",
        b"K",
        b"S",
        b"x",
        b"\x80",
        b"\xff",
        b"ustar  \0",
    ),
    repaired,
)
