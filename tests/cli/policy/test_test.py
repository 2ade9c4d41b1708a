from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke

POLICY = """version: 1
extends: [workspace]
tools:
  careful:
    filesystem: {protect: [.]}
examples:
  allow:
    - write: ./x
    - read: ~/.ssh/id
  deny:
    - syscall: ptrace
"""


def test_examples_that_hold_and_one_that_does_not(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path
) -> None:
    (workspace / "capsule.yaml").write_text(POLICY)
    answer = invoke(capsys, "policy", "test", "capsule.yaml")
    assert answer.code == 1
    assert "capsule.yaml:9: allow read ~/.ssh/id: is denied" in answer.out
    assert "by preset:toolchains:" in answer.out
    assert "2 of 3 examples hold" in answer.out
    value = json.loads(invoke(capsys, "policy", "test", "capsule.yaml", "--json").out)
    assert [example["passed"] for example in value["examples"]] == [True, False, True]
    assert value["examples"][1]["decision"]["kind"] == "denied"


def test_for_a_tool(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text(POLICY)
    assert (
        "allow write ./x: is protected"
        in invoke(capsys, "policy", "test", "capsule.yaml", "--tool", "careful").out
    )


def test_all_hold_or_there_are_none(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    answer = invoke(capsys, "policy", "test", "workspace")
    assert answer.code == 0
    assert "examples hold" in answer.out
    (workspace / "capsule.yaml").write_text("version: 1")
    answer = invoke(capsys, "policy", "test", "capsule.yaml")
    assert answer.code == 0
    assert "no examples" in answer.out
