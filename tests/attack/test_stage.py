"""A stage knows every change to what must not change, and its policy is one the parser takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsule.attack.case import Launch
from capsule.attack.stage import KEPT, Stage, as_yaml, mounted_below, remove, unlock
from capsule.cli.files import load_policy


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path, extends="workspace", confined=True, capsule="capsule")
    made.build(Launch())
    made.remember()
    return made


def test_nothing_changed_is_no_change(stage: Stage) -> None:
    assert stage.changes() == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda s: (s.outside / "canary").write_text("x"), "outside/canary"),
        (lambda s: (s.outside / "canary").chmod(0o600), "outside/canary"),
        (lambda s: os.utime(s.outside / "canary", (1, 1)), "outside/canary"),
        (lambda s: os.link(s.outside / "canary", s.ws / "second"), "outside/canary"),
        (lambda s: (s.outside / "new").write_text("x"), "outside/new"),
        (lambda s: (s.outside / "canary").unlink(), "outside/canary"),
        (lambda s: (s.home / ".bashrc").write_text("x"), "home/.bashrc"),
        (lambda s: (s.ws / KEPT).unlink(), "ws/" + KEPT),
        (lambda s: (s.ws / "capsule.yaml").rename(s.ws / "other"), "ws/capsule.yaml"),
        (lambda s: (s.ws / KEPT).rename(s.ws / "x") and (s.ws / KEPT).symlink_to("x"), "ws/" + KEPT),
    ],
)
def test_every_kind_of_change_is_seen(stage: Stage, change: object, name: str) -> None:
    assert callable(change)
    change(stage)
    assert name in stage.changes()


def test_what_capsule_writes_and_what_work_writes_is_not_a_change(stage: Stage) -> None:
    (stage.home / ".local/share/capsule").mkdir(parents=True)
    (stage.home / ".local/share/capsule/log.key").write_text("key")
    (stage.ws / "src/main.py").write_text("work")
    assert stage.changes() == []


def test_the_act_is_never_told_the_secret(stage: Stage) -> None:
    assert stage.secret not in stage.told()
    assert stage.mark in stage.told()
    assert (stage.outside / "canary").read_text() == stage.secret


@pytest.mark.parametrize("narrow", [{}, {"limits": {"memory": "96MiB", "processes": 32}}])
def test_the_policy_is_one(stage: Stage, narrow: dict[str, object]) -> None:
    path = stage.ws / "capsule.yaml"
    path.write_bytes(stage.policy(narrow))
    assert load_policy(str(path)).sections.limits["memory"].value == (96 << 20 if narrow else 8 << 30)


def test_as_yaml() -> None:
    assert as_yaml({"a": [1, "x"], "b": {"c": True}}) == 'a:\n  - 1\n  - "x"\nb:\n  c: true'


def test_a_stage_can_be_built_again_whatever_became_of_it(stage: Stage) -> None:
    (stage.ws / "deep").chmod(0)
    stage.build(Launch())
    stage.remember()
    assert stage.changes() == []
    (stage.ws / "deep").chmod(0)
    unlock(stage.root)
    assert os.access(stage.ws / "deep/down", os.R_OK)


MOUNTS = (
    "22 1 0:20 / / rw - ext4 /dev/vda rw\n"
    "30 22 0:20 / /var/tmp/capsule\\040x/stage/ws/bound rw - ext4 /dev/vda rw\n"
)


def test_a_mount_below_is_found_also_with_a_space_in_its_name() -> None:
    assert mounted_below(Path("/var/tmp/capsule x"), MOUNTS) == ["/var/tmp/capsule x/stage/ws/bound"]
    assert mounted_below(Path("/var/tmp/caps"), MOUNTS) == []


def test_what_something_is_mounted_on_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stage").mkdir()
    monkeypatch.setattr("capsule.attack.stage.mounted_below", lambda *_: [str(tmp_path / "stage/bound")])
    with pytest.raises(RuntimeError, match="unmount it"):
        remove(tmp_path / "stage")
    assert (tmp_path / "stage").is_dir()
    monkeypatch.undo()
    remove(tmp_path / "stage")
    assert not (tmp_path / "stage").exists()
