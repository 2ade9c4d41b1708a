from __future__ import annotations

import dataclasses

import pytest

from capsule.policy.model import (
    AUDIT_LEVELS,
    LIMIT_KINDS,
    Edit,
    NameEntry,
    Origin,
    PathEntry,
    ProgramEntry,
    Sections,
    SyscallEntry,
)
from capsule.policy.quantities import EXPECTED

HERE = Origin("capsule.yaml", 3, 5)


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (PathEntry("/a", HERE), "/a"),
        (NameEntry("n", HERE), "n"),
        (SyscallEntry("open", HERE), "open"),
        (ProgramEntry("/b", HERE), "/b"),
    ],
)
def test_an_entry_is_removed_by_its_key(
    entry: PathEntry | NameEntry | SyscallEntry | ProgramEntry, key: str
) -> None:
    assert entry.key == key


def test_an_origin_reads_as_file_and_line() -> None:
    assert str(HERE) == "capsule.yaml:3"


def test_absent_sections_say_nothing() -> None:
    empty = Sections()
    assert empty.filesystem.read == Edit()
    assert (empty.audit, empty.network.mode, empty.process.restricted) == (None, None, None)
    assert not empty.limits


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        HERE.line = 4  # type: ignore[misc]


def test_every_limit_has_a_kind_that_can_be_parsed() -> None:
    assert set(LIMIT_KINDS.values()) <= EXPECTED.keys()
    assert AUDIT_LEVELS[0] == "run"
