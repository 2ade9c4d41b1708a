from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

from capsem.errors import MachineError
from capsem.host.objects import Objects


def kept(objects: Objects, data: bytes, step: int = 1 << 18) -> str:
    with objects.writer() as writer:
        for place in range(0, len(data), step):
            writer.write(data[place : place + step])
        return writer.keep()


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_what_is_kept_is_read_and_kept_once(tmp_path: Path, size: int) -> None:
    objects, data = Objects(tmp_path / "objects"), os.urandom(size)
    digest = kept(objects, data)
    assert digest == blake3(data).hexdigest() == kept(objects, data)
    assert objects.read(digest, size) == data
    if size:
        assert objects.read(digest, size - 1) is None
    assert list(objects) == [digest]
    assert objects.size() == size
    assert [path.name for path in (tmp_path / "objects").glob("new-*")] == []


def test_what_broke_off_is_not_kept(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    with objects.writer() as writer:
        writer.write(b"x" * (3 << 20))
    assert list((tmp_path / "objects").iterdir()) == []


def test_what_nobody_wants_is_removed(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    one, two = kept(objects, b"one"), kept(objects, b"two!")
    (tmp_path / "objects/new-crashed").touch()
    assert objects.collect({one}) == 4
    assert list(objects) == [one]
    assert not (tmp_path / "objects/new-crashed").exists()
    with pytest.raises(MachineError, match="not kept"):
        objects.read(two, 10)


def test_what_is_not_what_it_is_named_by_is_not_handed_out(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    digest = kept(objects, b"one")
    objects.path(digest).write_bytes(b"two")
    with pytest.raises(MachineError, match="changed on the disk"):
        objects.read(digest, 10)
    for bad in ("", "../../etc/passwd", "A" * 64):
        with pytest.raises(MachineError, match="no digest"):
            objects.path(bad)
