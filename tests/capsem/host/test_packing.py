from __future__ import annotations

import os
import socket
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from blake3 import blake3

from capsem.errors import ConflictError, UsageError
from capsem.host.objects import Objects
from capsem.host.packing import Packing
from capsem.wire.archive import Limits
from tests.capsem.wire.test_archive import read


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "src/deep").mkdir(parents=True)
    (root / "src/a.py").write_bytes(b"a" * 3000)
    (root / "src/a.py").chmod(0o755)
    os.utime(root / "src/a.py", (7, 7))
    (root / "big").write_bytes(os.urandom(3 << 20))
    (root / "link").symlink_to("/etc/passwd")
    (root / ".env").write_text("secret")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(root / "sock"))
    return root


def test_a_directory_is_packed_and_told(project: Path, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    packing = Packing(project, leave=lambda path: "denied" if path == ".env" else None, objects=objects)
    data = b"".join(packing.pieces())
    packing.close()
    found = {one.path: (one, content) for one, content in read(data)}
    assert list(found) == ["", "big", "link", "src", "src/a.py", "src/deep"]
    assert found["src/a.py"][0].mode == 0o755
    assert found["src/a.py"][0].mtime == 7
    assert found["link"][0].target == "/etc/passwd"
    assert found["big"][1] == (project / "big").read_bytes()
    assert dict(packing.left_out) == {".env": "denied", "fifo": "it is a FIFO", "sock": "it is a socket"}
    assert packing.size == 3000 + (3 << 20)
    assert packing.tree["src/a.py"].digest == blake3(b"a" * 3000).hexdigest()
    assert sorted(objects) == sorted(packing.tree[name].digest for name in ("big", "src/a.py"))
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        assert len(archive.getmembers()) == 6


def test_limits_hold_before_the_first_byte(project: Path) -> None:
    for limits, what in (
        (Limits(names=3), "3 names"),
        (Limits(size=1000), "1000 bytes"),
        (Limits(depth=1), "deep"),
    ):
        (project / "src/deep/er").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=what):
            Packing(project, limits=limits)
    with pytest.raises(UsageError):
        Packing(project / "src/a.py")
    with pytest.raises(UsageError):
        Packing(project / "nothing")


@pytest.mark.parametrize("how", ["shorter", "gone", "a link"])
def test_a_file_that_changes_meanwhile_ends_it(project: Path, how: str) -> None:
    packing = Packing(project)
    file = project / "src/a.py"
    if how == "shorter":
        file.write_bytes(b"a")
    else:
        file.unlink()
    if how == "a link":
        file.symlink_to("/etc/passwd")
    with pytest.raises(ConflictError, match=r"src/a\.py"):
        list(packing.pieces())
    packing.close()


def test_a_directory_that_becomes_a_link_is_not_followed(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.py").write_bytes(b"b" * 3000)
    packing = Packing(project)
    (project / "src").rename(tmp_path / "moved")
    (project / "src").symlink_to(tmp_path / "outside")
    assert (project / "src/a.py").read_bytes() == b"b" * 3000, "the control: the plain name leads out"
    with pytest.raises(ConflictError, match=r"src/a\.py"):
        list(packing.pieces())
    packing.close()
