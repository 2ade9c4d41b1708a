"""FUSE as bytes: what is taken, what is answered, what is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsem.wire import fuse
from capsem.wire.frame import FrameError
from capsem.wire.fuse import Attributes, Entry, Op

FILE = Attributes(5, 7, 8, 1_500_000_001, 2, 3, 0o100644, 1)


def header(size: int, op: int = Op.LOOKUP) -> bytes:
    return fuse.HEADER.pack(size, op, 9, 1, 0, 0, 0, 0)


def test_a_request_is_read() -> None:
    found = fuse.parse(header(44) + b"src\0")
    assert (found.op, found.unique, found.node, found.names()) == (Op.LOOKUP, 9, 1, ("src",))
    both = fuse.parse(header(40 + 16 + 4, Op.RENAME2) + fuse.RENAME2.pack(7, 1, 0) + b"a\0b\0")
    assert both.fields(fuse.RENAME2) == (7, 1, 0)
    assert both.names(fuse.RENAME2, 2) == ("a", "b")
    link = fuse.parse(header(40 + 10, Op.SYMLINK) + b"l\0/a/../\xff\0")
    assert link.link() == ("l", b"/a/../\xff")


@pytest.mark.parametrize(
    "body", [b"", b"l", b"l\0", b"l\0/a", b"l\0/a\0b", b"l\0/a\0b\0", b"\0/a\0", b"..\0/a\0", b"a/b\0c\0"]
)
def test_no_link_is_asked_for_like_that(body: bytes) -> None:
    with pytest.raises(FrameError):
        fuse.parse(header(40 + len(body), Op.SYMLINK) + body).link()


@pytest.mark.parametrize("size", [0, 1, 39, fuse.LARGEST + 1, 0xFFFFFFFF])
def test_no_request_has_that_length(size: int) -> None:
    with pytest.raises(FrameError):
        fuse.length(size.to_bytes(4, "little"))
    assert fuse.length(fuse.LARGEST.to_bytes(4, "little")) == fuse.LARGEST


@pytest.mark.parametrize(
    "body", [b"", b"a", b"\0", b".\0", b"..\0", b"a/b\0", b"a\0b\0", b"a\0b", b"n" * 256 + b"\0"]
)
def test_no_name_is_that(body: bytes) -> None:
    with pytest.raises(FrameError):
        fuse.parse(header(40 + len(body)) + body).names()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(untrusted: bytes) -> None:
    for data in (untrusted, header(40 + len(untrusted)) + untrusted):
        try:
            request = fuse.parse(data)
            request.fields(fuse.SETATTR)
            assert all("/" not in name for name in request.names(fuse.SETATTR))
            fuse.forgotten(request)
        except FrameError:
            continue


def test_answers_have_the_kernel_s_sizes() -> None:
    assert len(fuse.entry(Entry(2, FILE))) == 128
    assert len(fuse.attributes(FILE)) == 104
    assert len(fuse.opened(1)) == 16
    assert len(fuse.space(4, 3, 2, 1)) == 80
    assert fuse.refusal(3, 13) == struct.pack("<IiQ", 16, -13, 3)
    packed = FILE.packed()
    assert struct.unpack_from("<6Q", packed) == (5, 7, 8, 1, 0, 0)
    assert struct.unpack_from("<10I", packed, 48) == (500_000_001, 2, 3, 0o100644, 1, 0, 0, 0, 4096, 0)


def test_both_sides_agree_on_what_both_can() -> None:
    told = fuse.agreed(
        fuse.parse(header(56, Op.INIT) + struct.pack("<IIII", 7, 40, 1 << 20, (1 << 12) | (1 << 16)))
    )
    major, minor, ahead, flags = struct.unpack_from("<IIII", told, 16)
    assert (major, minor, ahead, flags) == (7, 31, fuse.WRITE_LIMIT, 1 << 12)
    for version in ((6, 31), (8, 0), (7, 30)):
        with pytest.raises(FrameError):
            fuse.agreed(fuse.parse(header(56, Op.INIT) + struct.pack("<IIII", *version, 0, 0)))


def test_a_listing_asks_only_for_what_fits() -> None:
    names = [(f"name{number}", number, 0o100644) for number in range(100)]
    asked: list[str] = []

    def find(name: str) -> Entry | None:
        asked.append(name)
        return Entry(2, FILE) if name != "name1" else None

    told = fuse.listing(names, 0, 1000, find)
    assert len(told) == 6 * (128 + 32)
    assert asked == [f"name{number}" for number in range(6)]
    assert told[160:168] == bytes(8), "of what is gone nothing is told but its name"
    assert len(fuse.listing(names, 0, 1000, None)) == 31 * 32
    assert fuse.listing(names, 0, 31, None) == b""


def test_what_is_forgotten_is_counted() -> None:
    one = fuse.parse(header(48, Op.FORGET) + struct.pack("<Q", 3))
    assert fuse.forgotten(one) == [(1, 3)]
    two = fuse.parse(
        header(40 + 8 + 32, Op.BATCH_FORGET) + fuse.BATCH.pack(2, 0) + struct.pack("<4Q", 5, 1, 6, 2)
    )
    assert fuse.forgotten(two) == [(5, 1), (6, 2)]
    with pytest.raises(FrameError):
        fuse.forgotten(fuse.parse(header(48, Op.BATCH_FORGET) + fuse.BATCH.pack(1 << 31, 0)))
