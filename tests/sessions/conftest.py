from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from capsule.sessions.database import Writer, directory
from capsule.sessions.ingest import Taken, take_in
from tests.native.log import Log


@pytest.fixture
def log(capsule_binary: Path, tmp_path: Path) -> Log:
    return Log(capsule_binary, tmp_path / "capsule.log")


@pytest.fixture
def taken(log: Log) -> Callable[..., Taken]:
    """Record entries on the log, take it in, and say what came in."""

    def take(entries: Iterable[dict[str, Any]] = ()) -> Taken:
        done = log.record(entries)
        assert done.returncode == 0, done.stderr
        with Writer.open(directory()) as writer:
            assert writer.notes == []
            return take_in(writer, [str(log.path)])

    return take
