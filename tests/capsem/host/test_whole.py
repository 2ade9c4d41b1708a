from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.host.whole import settle, settle_file, write_whole


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_replaced_as_a_whole_and_is_its_owners_alone(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "session.json"
    for content in (b"one", b"x" * 3_000_000, b""):
        write_whole(path, content, sync=sync)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["session.json"]
    settle(tmp_path)


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "session.json"
    write_whole(path, b"before")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_whole(path, b"x" * 100_000)
        except OSError as error:
            os._exit(0 if error.filename == str(path) else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "a disk without room is an error"
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["session.json"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "a.new").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(tmp_path / "a", b"theirs")
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_link_is_no_file_to_be_settled(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    settle_file(tmp_path / "disk")
    (tmp_path / "link").symlink_to("disk")
    with pytest.raises(OSError, match="symbolic"):
        settle_file(tmp_path / "link")
