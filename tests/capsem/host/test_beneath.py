"""Nothing outside is opened, whatever stands in the way; the same name without the guard is (the control)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.host.beneath import DIRECTORY, NEW, open_beneath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("s")
    inside = tmp_path / "root"
    (inside / "d").mkdir(parents=True)
    (inside / "d/f").write_text("f")
    (inside / "out").symlink_to("../outside")
    (inside / "in").symlink_to("d")
    (inside / "proc").symlink_to("/proc/self/cwd")
    return inside


def test_what_is_inside_is_opened(root: Path) -> None:
    at = os.open(root, DIRECTORY)
    for path, flags in (("d/f", os.O_RDONLY), ("d", DIRECTORY), ("", DIRECTORY), ("d/new", NEW)):
        descriptor = open_beneath(at, path, flags, 0o600)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
    os.close(at)


@pytest.mark.parametrize(
    "path", ["out/secret", "in/f", "proc/x", "../outside/secret", "d/../../outside/secret", "out", "in"]
)
def test_what_leads_out_or_over_a_link_is_not(root: Path, path: str) -> None:
    if path != "proc/x":
        assert (root / path).exists(), "the control: by its plain name it is reached"
    at = os.open(root, DIRECTORY)
    with pytest.raises(OSError, match=r"."):
        open_beneath(at, path, os.O_RDONLY)
    with pytest.raises(OSError, match=r"."):
        open_beneath(at, "/etc/passwd", os.O_RDONLY)
    os.close(at)
