"""What a guest may say about a tree of files, and everything it may not."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable, Sequence

import pytest

from capsem.wire.archive import ArchiveError, ArchiveReader, Limits, Member, leads_out, parts_of
from capsem.wire.packing import END, header, padding


def read(data: bytes, limits: Limits | None = None, step: int = 1 << 30) -> list[tuple[Member, bytes]]:
    """All of an archive, fed in pieces of `step` bytes."""
    reader = ArchiveReader(limits or Limits())
    found: list[tuple[Member, bytes]] = []
    for place in range(0, len(data), step):
        for piece in reader.feed(data[place : place + step]):
            if isinstance(piece, Member):
                found.append((piece, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + piece)
    reader.finish()
    return found


def member(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, **fields: object) -> tarfile.TarInfo:
    """A member as Python's own writer takes it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar(*members: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    """An archive by Python's own writer; contents are x."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for one in members:
            archive.addfile(one, io.BytesIO(b"x" * one.size) if one.isreg() else None)
    return out.getvalue()


def directory(name: str) -> tarfile.TarInfo:
    return member(name, tarfile.DIRTYPE, mode=0o755)


@pytest.mark.parametrize("step", [1, 511, 512, 4096, 1 << 30])
def test_what_python_writes_is_read(step: int) -> None:
    long = "d/" + "n" * 200
    data = tar(
        member("./", tarfile.DIRTYPE), directory("./d"), member("./d/a", size=700, mode=0o4755, mtime=7),
        member(long, size=512), member("d/l", tarfile.SYMTYPE, linkname="t" * 300), member("d/f", tarfile.FIFOTYPE),
    )  # fmt: skip
    found = read(data, step=step)
    assert [(one.path, one.kind) for one, _ in found] == [
        ("", "directory"), ("d", "directory"), ("d/a", "file"), (long, "file"), ("d/l", "link"), ("d/f", "special"),
    ]  # fmt: skip
    assert found[2] == (Member("d/a", "file", 0o755, 7, 700, dropped=0o4000), b"x" * 700)
    assert found[3][1] == b"x" * 512
    assert found[4][0].target == "t" * 300
    assert found[5][0].what == "FIFO"


def test_ustar_with_a_prefix_and_large_numbers_are_read() -> None:
    deep = "/".join(["p" * 50] * 3)
    parents = ["/".join(["p" * 50] * count) for count in (1, 2, 3)]
    found = read(tar(*map(directory, parents), member(f"{deep}/x", size=1), form=tarfile.USTAR_FORMAT))
    assert found[-1] == (Member(f"{deep}/x", "file", 0o644, 0, 1), b"x")
    early = read(tar(member("x", mtime=-5)))[0][0]
    assert early.mtime == -5


BAD: dict[str, Callable[[], bytes]] = {
    "an absolute name": lambda: tar(member("/etc/passwd")),
    "a name that goes up": lambda: tar(directory("a"), member("a/../../x")),
    "two dots alone": lambda: tar(member("..")),
    "an empty part": lambda: tar(directory("a"), member("a//x")),
    "a dot in the middle": lambda: tar(directory("a"), member("a/./x")),
    "a name twice": lambda: tar(member("x"), member("x")),
    "a name twice, once with a dot": lambda: tar(member("x"), member("./x")),
    "a directory twice": lambda: tar(directory("a"), directory("a")),
    "no directory before": lambda: tar(member("a/x")),
    "a link as directory": lambda: tar(member("a", tarfile.SYMTYPE, linkname="/etc"), member("a/passwd")),
    "a file as directory": lambda: tar(member("a", size=1), member("a/x")),
    "a link that a directory replaces": lambda: tar(
        member("a", tarfile.SYMTYPE, linkname="/etc"), directory("a")
    ),
    "a hard link": lambda: tar(member("x"), member("y", tarfile.LNKTYPE, linkname="x")),
    "a hard link out": lambda: tar(member("y", tarfile.LNKTYPE, linkname="/etc/passwd")),
    "a pax header": lambda: tar(member("é" * 120), form=tarfile.PAX_FORMAT),
    "a sparse file": lambda: tar(member("x", tarfile.GNUTYPE_SPARSE)),
    "an unknown kind": lambda: tar(member("x", b"Z")),
    "a directory with content": lambda: _patched(tar(directory("a")), size=b"00000001000\0"),
    "a link to nothing": lambda: tar(member("x", tarfile.SYMTYPE, linkname="")),
    "a name of 256 bytes": lambda: tar(member("n" * 256)),
    "a path of 4,200 bytes": lambda: tar(member("/".join(["n" * 100] * 42))),
    "a negative size": lambda: _patched(tar(member("x")), size=(2**96 - 1).to_bytes(12, "big")),
    "a size that is no number": lambda: _patched(tar(member("x")), size=b"0000000009z\0"),
    "an immense time": lambda: _patched(tar(member("x")), mtime=b"\x80" + b"\xff" * 11),
    "a wrong checksum": lambda: tar(member("x")).replace(b"x", b"y", 1),
    "no magic": lambda: _patched(tar(member("x")), magic=b"\0" * 8),
    "bytes after the end": lambda: tar(member("x"))[:1536] + b"x",
    "no end": lambda: tar(member("x"))[:512],
    "an end in a content": lambda: tar(member("x", size=600))[:1000],
    "one empty block": lambda: tar(member("x"))[:1024],
    "a member after an empty block": lambda: bytes(512) + tar(member("x")),
    "zeros for ever": lambda: bytes(3 << 20),
    "nothing": lambda: b"",
    "the root after others": lambda: tar(member("x"), member("./", tarfile.DIRTYPE)),
    "the root as a file": lambda: tar(member("./")),
    "two long names": lambda: _long(b"L", b"a" * 200) + _long(b"L", b"b" * 200) + tar(member("x")),
    "a long name of nothing": lambda: _long(b"L", b"a" * 200) + END,
    "a long name with a zero": lambda: _long(b"L", b"a\0b" * 50) + tar(member("x")),
    "a long name of a megabyte": lambda: _long(b"L", b"a" * (1 << 20)) + tar(member("x")),
}


def _patched(
    data: bytes, *, size: bytes | None = None, mtime: bytes | None = None, magic: bytes | None = None
) -> bytes:
    block = bytearray(data[:512])
    for place, value in ((124, size), (136, mtime), (257, magic)):
        if value is not None:
            block[place : place + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


def _long(flag: bytes, text: bytes) -> bytes:
    block = bytearray(tar(member("././@LongLink"))[:512])
    block[156:157] = flag
    return _patched(bytes(block), size=b"%011o\0" % (len(text) + 1)) + text + b"\0" + padding(len(text) + 1)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("step", [1 << 30, 100])
def test_what_a_guest_may_not_say(name: str, step: int) -> None:
    with pytest.raises(ArchiveError):
        read(BAD[name](), step=step)


@pytest.mark.parametrize(
    ("limits", "members"),
    [
        (Limits(names=2), [member("a"), member("b"), member("c")]),
        (Limits(size=10), [member("a", size=6), member("b", size=6)]),
        (Limits(depth=1), [directory("a"), directory("a/b"), member("a/b/c")]),
        (Limits(text=10), [member("a" * 6), member("b" * 6)]),
        (Limits(folds=True), [member("README"), member("readme")]),
        (Limits(folds=True), [directory(".git"), directory(".GIT")]),
    ],
)
def test_limits_hold_and_one_less_passes(limits: Limits, members: Sequence[tarfile.TarInfo]) -> None:
    assert read(tar(*members[:-1]), limits)
    assert len(read(tar(*members))) == len(members)
    with pytest.raises(ArchiveError):
        read(tar(*members), limits)


def test_a_size_counts_before_its_bytes_come() -> None:
    data = _patched(tar(member("x")), size=b"\x80" + (1 << 60).to_bytes(11, "big"))
    with pytest.raises(ArchiveError, match="bytes"):
        ArchiveReader(Limits()).feed(data[:512])


def test_an_endless_stream_of_names_ends_at_the_limit_with_bounded_memory() -> None:
    reader = ArchiveReader(Limits(names=3000))

    def flood() -> None:
        for count in range(10_000_000):
            reader.feed(header(Member(f"f{count}", "file")))

    with pytest.raises(ArchiveError, match="more than 3000 names"):
        flood()
    assert reader.names == 3000


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("a", "b", False), ("a", "./b/c", False), ("d/a", "../b", False), ("a", "../b", True), ("d/a", "../../b", True),
        ("a", "/etc/passwd", True), ("a/b/c", "l/..", True), ("a/b/l", "../..", False), ("a", "b/../../c", True),
        ("a", "..", True), ("d/a", "..", False), ("d/a", ".//../x", False),
    ],
)  # fmt: skip
def test_where_a_link_leads(path: str, target: str, out: bool) -> None:
    assert leads_out(path, target) is out


def test_parts() -> None:
    assert parts_of("./a/b/") == ("a", "b")
    assert parts_of("./") == ()
    for bad in ("", "/", "a/..", "./../x", "a\0b"):
        with pytest.raises(ArchiveError):
            parts_of(bad)


def test_changed_archives_never_end_otherwise() -> None:
    """Seeded mutation: whatever comes, it is members within their limits, or an ArchiveError."""
    dice = random.Random(20)
    seed = tar(
        directory("d"), member("d/a", size=700), member("n" * 150, size=3),
        member("d/l", tarfile.SYMTYPE, linkname="a"),
        member("d/f", tarfile.FIFOTYPE),
    )  # fmt: skip
    refused = taken = 0
    for _ in range(4000):
        data = bytearray(seed)
        for _ in range(dice.randint(1, 4)):
            place = dice.choice(
                [dice.randrange(len(data)), dice.randrange(0, len(data), 512) + dice.choice([0, 124, 156])]
            )
            data[min(place, len(data) - 1)] = dice.choice(
                [0, 0x2F, 0x2E, 0x30, 0x31, 0x37, 0x80, 0xFF, dice.randrange(256)]
            )
        for start in range(0, len(data), 512):
            block = data[start : start + 512]
            if dice.random() < 0.9 and block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
        try:
            found = read(bytes(data), Limits(names=100, size=10_000), dice.choice([97, 512, 1 << 20]))
        except ArchiveError:
            refused += 1
            continue
        taken += 1
        for one, content in found:
            assert ".." not in one.path.split("/")
            assert not one.path.startswith("/")
            assert len(content) == (one.size if one.kind == "file" else 0)
            assert one.mode <= 0o777
    assert refused > 500
    assert taken > 500
