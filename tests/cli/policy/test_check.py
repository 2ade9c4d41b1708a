from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.invoke import invoke


def test_a_good_policy(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nname: web\nextends: [workspace]\ntools: {t: {audit: all}}\n"
    )
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("web: good (4 sources, blake3:")
    value = json.loads(invoke(capsys, "policy", "check", "capsule.yaml", "--json").out)
    assert (value["ok"], value["problems"], value["name"]) == (True, [], "web")


def test_a_policy_that_grants_nothing_is_pointed_out(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\n")
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 0
    assert "nothing may be executed" in answer.out
    assert "extends: [workspace]" in answer.out
    value = json.loads(invoke(capsys, "policy", "check", "capsule.yaml", "--json").out)
    assert len(value["warnings"]) == 1


def test_a_program_without_a_path_is_a_file_of_the_workspace_and_most_likely_a_mistake(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nprocess:\n  programs: [sh, nosuchprogram, /usr/bin/env]\n"
    )
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 0
    assert "note: capsule.yaml:4: process.programs: 'sh' is the file ./sh of the workspace" in answer.out
    assert f"did you mean {shutil.which('sh')}?" in answer.out
    assert "name a program by its absolute path" in answer.out
    assert "env" not in answer.out
    (workspace / "sh").write_text("")
    assert "./sh" not in invoke(capsys, "policy", "check", "capsule.yaml").out


def test_problems_are_told_with_their_place(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nfilesytem: {}\nsyscalls: {allow: [opennat]}\n")
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert "capsule: capsule.yaml:2:1: unknown key 'filesytem'" in answer.err
    assert "did you mean 'filesystem'?" in answer.err
    value = json.loads(invoke(capsys, "policy", "check", "capsule.yaml", "--json").out)
    assert not value["ok"]
    assert value["problems"][0]["nearest"] == "filesystem"


def test_tools_are_checked_too(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\ntools: {t: {syscalls: {allow: [opennat]}}}\n")
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 2
    assert "unknown system call 'opennat'" in answer.err


def test_what_gives_away_more_than_it_seems_to_is_noted(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork: {hosts: [github.com]}\n"
    )
    answer = invoke(capsys, "policy", "check")
    assert answer.code == 0
    assert (
        "note: capsule.yaml:3: anybody can publish at github.com: this lets data out to strangers;"
        in answer.out
    )
    (warning,) = json.loads(invoke(capsys, "policy", "check", "--json").out)["warnings"]
    assert "anybody can publish" in warning
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\ntools: {t: {network: {mode: open}}}\n"
    )
    assert "note: capsule.yaml:3: network.mode is 'open'" in invoke(capsys, "policy", "check").out


def test_rules_that_do_not_compile_make_a_policy_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [workspace]\nrules: [./rules.yaml]\n")
    answer = invoke(capsys, "policy", "check")
    assert answer.code == 2
    assert "rules.yaml" in answer.err
    (workspace / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {id: a, on: http, when: 'http.hots', action: block}\n"
    )
    answer = invoke(capsys, "policy", "check")
    assert answer.code == 2
    assert "capsule: rules.yaml:3:" in answer.err
    (workspace / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {id: a, on: dns, when: 'true', action: block}\n"
    )
    assert invoke(capsys, "policy", "check").code == 0


def test_authorities_that_are_not_there_are_named(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork: {hosts: [a.example], authorities: [./ours.pem]}\n"
    )
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 0
    assert "capsule.yaml:3: the authorities of ours.pem do not exist here" in answer.out
    (workspace / "ours.pem").write_text("x")
    assert "ours.pem" not in invoke(capsys, "policy", "check", "capsule.yaml").out, "the control"
