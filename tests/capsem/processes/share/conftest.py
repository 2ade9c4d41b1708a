"""A shared directory with a file, the guest's kernel at it, and a secret that lies beside it on the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capsem.processes.share.kernel import SECRET, Kernel, serving


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_bytes(SECRET)
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / "src").mkdir(parents=True)
    (place / "src/a.py").write_text("a = 1\n")
    return place


@pytest.fixture
def kernel(root: Path) -> Kernel:
    return Kernel(serving(root)[0])
