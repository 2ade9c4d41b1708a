"""Tests of the distribution `capsem`: where it is not installed, each file is skipped by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capabilities import absent


class _Absent(pytest.Module):
    """A test file that cannot be imported here."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(f"needs capsem: {absent('capsem')}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if absent("capsem") is None:
        return None
    return _Absent.from_parent(parent, path=module_path)
