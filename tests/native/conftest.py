"""What several tests of the launcher need: `capsule run` as an ordinary user, whoever runs the tests.

Example: ``def test_it(as_ordinary_user: Capsule) -> None: as_ordinary_user.run("true")``
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.running import Capsule


@pytest.fixture
def as_ordinary_user(
    capsule_binary: Path, ordinary_user: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Capsule]:
    """The binary, a workspace and a home that an ordinary user can reach."""
    root = Path(tempfile.mkdtemp(prefix="capsule-", dir="/var/tmp"))
    root.chmod(0o755)
    binary = root / "capsule"
    shutil.copyfile(capsule_binary, binary)
    binary.chmod(0o755)
    for name in ("home", "workspace"):
        (root / name).mkdir()
        os.chown(root / name, ordinary_user.pw_uid, ordinary_user.pw_gid)
    (root / "home" / "secret").write_text("DECOY")
    monkeypatch.setenv("HOME", str(root / "home"))
    for name in ("DATA", "STATE", "CACHE", "CONFIG"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:
        before = (
            "setpriv",
            f"--reuid={ordinary_user.pw_uid}",
            f"--regid={ordinary_user.pw_gid}",
            "--clear-groups",
        )
    yield Capsule(binary, root / "workspace", before)
    shutil.rmtree(root)
