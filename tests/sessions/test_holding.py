from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import pytest
from blake3 import blake3

from capsule.sessions.holding import held

LOG = "0" * 32


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for folder in ("data/capsule", "state/capsule/heads"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "state/capsule/heads" / LOG).touch()
    path = tmp_path / "data/capsule/log.lock"
    path.touch()
    return path


def test_a_run_is_held_for_as_long_as_its_writer_lives(locks: Path) -> None:
    """The byte of docs/formats/audit-log.md, taken here as the writer does."""
    digest = blake3(b"r-1", derive_key_context="capsule run lock v1").digest()
    place = int.from_bytes(digest[:8], "little") & (2**62 - 1)
    writer = os.open(locks, os.O_RDWR)
    lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, place, 1, 0)
    fcntl.fcntl(writer, fcntl.F_OFD_SETLK, lock)
    assert held("r-1", LOG) is True
    assert held("r-2", LOG) is False
    os.close(writer)
    assert held("r-1", LOG) is False


def test_what_nobody_here_can_know(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert held("r-1", "1" * 32) is None, "a log that was not written from here"
    locks.unlink()
    assert held("r-1", LOG) is None
    locks.symlink_to("/dev/zero")
    assert held("r-1", LOG) is None
    monkeypatch.delattr(fcntl, "F_OFD_GETLK")
    assert held("r-1", LOG) is None
