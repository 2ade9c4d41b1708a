from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsule.cli.files import FileLoader, load_policy, load_source, policy_in_force
from capsule.cli.policy.access import variables_of
from capsule.errors import PolicyError
from capsule.policy.document import MAX_BYTES
from capsule.policy.merge import LoadError


def refused(reference: str) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(reference)
    return str(caught.value)


def test_presets_and_files(workspace: Path) -> None:
    assert load_source("workspace").path == "preset:workspace"
    (workspace / "capsule.yaml").write_text("version: 1\n")
    assert load_source("capsule.yaml").path == str(workspace.resolve() / "capsule.yaml")
    (workspace / "strict").write_text("version: 1\nname: mine\n")
    assert load_policy("strict").name == "strict"  # a bare preset's name is the preset
    assert load_policy("./strict").name == "mine"
    (workspace / "own").write_text("version: 1\n")
    assert load_policy("own").name == "own"


def test_files_are_relative_to_the_file_that_extends_them(workspace: Path, home: Path) -> None:
    (workspace / "policies").mkdir()
    (workspace / "team.yaml").write_text("version: 1\nfilesystem: {read: [/team]}")
    (home / "mine.yaml").write_text("version: 1\nfilesystem: {read: [/mine]}")
    (workspace / "policies" / "a.yaml").write_text("version: 1\nextends: [../team.yaml, b.yaml]")
    (workspace / "policies" / "b.yaml").write_text("version: 1\nextends: [~/mine.yaml]")
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [policies/a.yaml]")
    policy = load_policy("capsule.yaml")
    assert [entry.path for entry in policy.sections.filesystem.read.add] == ["/team", "/mine"]
    where = workspace.resolve()
    assert [source.path for source in policy.sources] == [
        f"{where}/capsule.yaml", f"{where}/policies/a.yaml", f"{where}/policies/b.yaml",
        f"{home.resolve()}/mine.yaml", f"{where}/team.yaml",
    ]  # fmt: skip


def test_a_linked_policy_is_about_the_directory_its_name_stands_in(workspace: Path, home: Path) -> None:
    kept = home / "dotfiles"
    kept.mkdir()
    (kept / "mine.yaml").write_text("version: 1\nextends: [./base.yaml]\n")
    (kept / "base.yaml").write_text("version: 1\nfilesystem: {read: [/base]}\n")
    (workspace / "base.yaml").write_text("version: 1\nfilesystem: {read: [/planted]}\n")
    (workspace / "capsule.yaml").symlink_to(kept / "mine.yaml")
    source = load_source("capsule.yaml")
    assert source.path == str(workspace.resolve() / "capsule.yaml")
    assert source.target == str(kept.resolve() / "mine.yaml")
    policy = load_policy("capsule.yaml")
    # What it extends lies beside the file itself, never beside the link.
    assert [entry.path for entry in policy.sections.filesystem.read.add] == ["/base"]
    assert variables_of(policy).workspace == str(workspace.resolve())
    assert policy_in_force("capsule.yaml", workspace) == str(workspace.resolve() / "capsule.yaml")


def test_an_extended_link_is_named_by_what_is_read(workspace: Path) -> None:
    (workspace / "real.yaml").write_text("version: 1\n")
    (workspace / "link.yaml").symlink_to("real.yaml")
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [./link.yaml, ./real.yaml]")
    files = [source.path for source in load_policy("capsule.yaml").sources]
    assert files == [str(workspace.resolve() / name) for name in ("capsule.yaml", "real.yaml")]


def test_a_circle_of_links_is_an_error_with_its_place(workspace: Path) -> None:
    (workspace / "a.yaml").symlink_to("b.yaml")
    (workspace / "b.yaml").symlink_to("a.yaml")
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [./a.yaml]")
    assert "capsule.yaml:2:11: the file" in refused("capsule.yaml")
    assert "symbolic links" in refused("a.yaml")


def test_a_circle_through_links_is_found(workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [./link.yaml]")
    (workspace / "link.yaml").symlink_to("capsule.yaml")
    assert "in a circle" in refused("capsule.yaml")


def test_tools(workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\ntools: {t: {audit: all}}")
    assert load_policy("capsule.yaml", "t").sections.audit is not None
    with pytest.raises(PolicyError, match="no tool 'x'"):
        load_policy("capsule.yaml", "x")


def test_what_is_not_a_readable_file_is_refused(workspace: Path) -> None:
    assert "./none.yaml:1:1: the file none.yaml cannot be read: No such file" in refused("./none.yaml")
    assert "there is no such preset or file" in refused("workspcae")
    assert "did you mean 'workspace'?" in refused("workspcae")
    (workspace / "d.yaml").mkdir()
    assert "is not a regular file" in refused("d.yaml")
    os.mkfifo(workspace / "f.yaml")
    assert "is not a regular file" in refused("f.yaml")
    (workspace / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 10))
    assert "split it and use 'extends'" in refused("big.yaml")
    with pytest.raises(LoadError, match="cannot be read"):
        FileLoader().load("./x.yaml", str(workspace / "capsule.yaml"))


def test_a_device_is_refused(workspace: Path) -> None:
    (workspace / "zero.yaml").symlink_to("/dev/zero")
    assert "is not a regular file" in refused("zero.yaml")


def test_the_policy_is_that_of_a_run_started_here(tmp_path: Path) -> None:
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    (tmp_path / "a/.git").mkdir()
    (tmp_path / "capsule.yaml").write_text("version: 1\n")
    assert policy_in_force(None, below) == "workspace"
    (tmp_path / "a/capsule.yaml").write_text("version: 1\n")
    assert policy_in_force(None, below) == str(tmp_path / "a/capsule.yaml")
    assert policy_in_force("strict", below) == "strict"
    assert policy_in_force(str(tmp_path / "capsule.yaml"), below) == str(tmp_path / "capsule.yaml")


def test_the_search_for_a_policy_stops_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    below = tmp_path / "home/project"
    below.mkdir(parents=True)
    (tmp_path / "capsule.yaml").write_text("version: 1\n")
    assert policy_in_force(None, below) == "workspace"
    (tmp_path / "home/capsule.yaml").write_text("version: 1\n")
    assert policy_in_force(None, below) == str(tmp_path / "home/capsule.yaml")
