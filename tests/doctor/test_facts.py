"""Measuring leaves nothing behind, and a binary that is not there is a fact, not a crash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsule.doctor.facts import PROBES, measure


def test_measuring_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.delenv("XDG_STATE_HOME")
    facts = measure(capsule=str(tmp_path / "absent"), policy="workspace")
    assert facts.run is None
    assert "absent" in facts.run_error
    assert set(facts.probes) == set(PROBES)
    assert not [place for place in facts.places if place.exists]
    assert not list(tmp_path.iterdir())


def test_places_are_those_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "capsule").mkdir(mode=0o700)
    (tmp_path / "capsule/log.key").write_text("key")
    (tmp_path / "capsule/log.key").chmod(0o644)
    key = next(p for p in measure(capsule="/absent", policy="x").places if p.path.endswith("log.key"))
    assert key.exists
    assert key.mode == 0o644
    assert key.ours is (key.path and os.geteuid() == (tmp_path / "capsule/log.key").stat().st_uid)


def test_a_binary_that_talks_nonsense_is_quoted(tmp_path: Path) -> None:
    binary = tmp_path / "capsule"
    binary.write_text("#!/bin/sh\necho 'capsule: no such thing' >&2; exit 3\n")
    binary.chmod(0o755)
    facts = measure(capsule=str(binary), policy="workspace")
    assert facts.run is None
    assert "no such thing" in facts.run_error
