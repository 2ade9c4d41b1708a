"""Reading logs and memory from disk, as the native side leaves them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsule.audit import store
from capsule.audit.verifier import Outcome
from capsule.places import state_directory
from tests.audit import forge
from tests.native.log import Log


@pytest.fixture
def log(capsule_binary: Path, tmp_path: Path) -> Log:
    log = Log(capsule_binary, tmp_path / "capsule.log")
    log.fill()
    return log


def test_entries_of_a_native_log_are_read(log: Log) -> None:
    entries = list(store.entries(log.path))
    assert [entry.kind for entry in entries] == ["log.created", "exec", "exec", "exec"]
    assert [entry.seq for entry in entries] == [0, 1, 2, 3]


def test_a_native_log_verifies_by_its_remembered_key_and_head(log: Log) -> None:
    report = store.verify(log.path)
    assert (report.outcome, report.entries) == (Outcome.VERIFIED, 4)
    assert store.verify(log.path, memory=False).outcome is Outcome.UNAUTHENTICATED
    key = log.text("--key").strip()
    assert store.verify(log.path, key=key, memory=False).outcome is Outcome.VERIFIED
    note = log.text("--checkpoint")
    log.fill()
    assert store.verify(log.path, key=key, since=note).outcome is Outcome.VERIFIED
    data = log.path.read_bytes()
    log.path.write_bytes(data[: data.rindex(b'{"block"')])
    assert store.verify(log.path).outcome is Outcome.ROLLED_BACK


def test_the_head_of_many_appends_is_that_of_the_native_side(log: Log) -> None:
    for _ in range(5):
        log.fill(7)
        report = store.verify(log.path)
        assert report.outcome is Outcome.VERIFIED, report.why
        assert report.log is not None
        known = store.remembered(report.log)
        assert known is not None
        assert known[0].size == report.entries


def test_damaged_memory_is_an_error(log: Log) -> None:
    report = store.verify(log.path)
    assert report.log is not None
    head = state_directory() / "heads" / report.log
    head.write_bytes(head.read_bytes().replace(b'"size"', b'"seiz"'))
    with pytest.raises(store.LogError, match="damaged"):
        store.verify(log.path)
    head.write_bytes(b"")
    assert store.remembered(report.log) is None


def test_a_log_id_is_never_a_path(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(forge.Forge().genesis(log="../../../etc/passwd").data)
    assert store.verify(path).outcome is Outcome.MALFORMED


@pytest.mark.parametrize(("argument", "why"), [({"key": "x"}, "public key"), ({"since": "x"}, "checkpoint")])
def test_what_is_neither_key_nor_checkpoint_is_an_error(log: Log, argument: dict[str, str], why: str) -> None:
    with pytest.raises(store.LogError, match=why):
        store.verify(log.path, **argument)  # type: ignore[arg-type]


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(store.LogError, match="cannot be read"):
        store.verify(tmp_path / "none", memory=False)


def test_relative_state_directories_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_directory() == tmp_path / ".local/state/capsule"
    assert os.environ["XDG_STATE_HOME"] == "relative"
