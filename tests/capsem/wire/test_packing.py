"""What is written is read by Python's own reader, by tar, and by ours."""

from __future__ import annotations

import io
import random
import tarfile

import pytest

from capsem.wire.archive import ArchiveError, Member
from capsem.wire.packing import header, pieces
from tests.capsem.wire.test_archive import read


def packed(*members: tuple[Member, bytes]) -> bytes:
    made = list(pieces(((one, (content,)) for one, content in members), 1 << 10))
    assert all(made), "no piece is empty"
    return b"".join(made)


def some(dice: random.Random) -> list[tuple[Member, bytes]]:
    found: list[tuple[Member, bytes]] = [(Member("", "directory", 0o755), b"")]
    above = [""]
    for number in range(dice.randint(1, 12)):
        name = dice.choice(["a", "é", "b c", "\udcff", "new\nline"]) * dice.choice([1, 1, 20, 25]) + str(
            number
        )
        path = f"{dice.choice(above)}/{name}".lstrip("/")
        match dice.choice(["file", "directory", "link"]):
            case "file":
                content = dice.randbytes(dice.choice([0, 1, 511, 512, 513, 2000]))
                found.append(
                    (
                        Member(
                            path, "file", dice.randrange(0o1000), dice.randrange(-9, 1 << 33), len(content)
                        ),
                        content,
                    )
                )
            case "directory":
                found.append((Member(path, "directory", 0o755, 5), b""))
                above.append(path)
            case _:
                found.append(
                    (Member(path, "link", 0o777, 5, target="t" * dice.choice([1, 99, 100, 101, 3000])), b"")
                )
    return found


def test_a_round_trip_through_ours_and_pythons_reader() -> None:
    dice = random.Random(3)
    for _ in range(200):
        members = some(dice)
        data = packed(*members)
        assert read(data, step=dice.choice([333, 512, 1 << 20])) == members
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
            for info, (one, content) in zip(archive.getmembers(), members, strict=True):
                assert info.name == ("." if one.path == "" else f"./{one.path}")
                assert (info.mode, info.mtime, info.linkname) == (one.mode, one.mtime, one.target)
                if one.kind == "file":
                    file = archive.extractfile(info)
                    assert file is not None
                    assert file.read() == content


def test_what_cannot_be_in_an_archive() -> None:
    with pytest.raises(ValueError, match="FIFO"):
        header(Member("x", "special", what="FIFO"))
    with pytest.raises(ArchiveError):
        header(Member("../x", "file"))
    with pytest.raises(ValueError, match="too long"):
        header(Member("x", "link", target="t" * 5000))
