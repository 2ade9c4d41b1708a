"""Tests of machines: where `capsem` is not installed each file is skipped by name; else all begin with one image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capabilities import absent
from tests.vm.beginnings import once


class _Absent(pytest.Module):
    """A test file that cannot be imported here."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(f"needs capsem: {absent('capsem')}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if absent("capsem") is None:
        return None
    return _Absent.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home whose image and template are those of all others."""
    from tests.vm.test_machines import begun

    top = tmp_path_factory.getbasetemp()
    # Processes of pytest that work beside each other have directories beside each other.
    return once((top.parent if os.environ.get("PYTEST_XDIST_WORKER") else top) / "machines", begun)
