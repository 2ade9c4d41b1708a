from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke

WIDE = "version: 1\nextends: [workspace]\nfilesystem: {read: [~/.ssh]}\n"


@pytest.fixture(autouse=True)
def policy(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (workspace / "capsule.yaml").write_text(WIDE)
    return workspace / "capsule.yaml"


def test_a_wide_policy_is_shown_accepted_and_forgotten(
    capsys: pytest.CaptureFixture[str], policy: Path
) -> None:
    asked = invoke(capsys, "policy", "accept", "--check")
    assert (asked.code, asked.out) == (1, "critical  may read ~/.ssh   (capsule.yaml:3)\n")
    given = invoke(capsys, "policy", "accept")
    assert given.code == 0
    assert given.out.splitlines()[-1] == "capsule.yaml: accepted; capsule run uses it here until it changes"
    assert invoke(capsys, "policy", "accept", "--check").code == 0
    assert invoke(capsys, "policy", "accept").out.splitlines()[-1] == "capsule.yaml: accepted already"
    policy.write_text(WIDE + "audit: all\n")
    assert invoke(capsys, "policy", "accept", "--check").code == 1
    policy.write_text(WIDE)
    assert invoke(capsys, "policy", "accept", "--revoke").out.endswith("no longer accepted\n")
    assert invoke(capsys, "policy", "accept", "--revoke").out.endswith("was not accepted\n")
    assert invoke(capsys, "policy", "accept", "--check").code == 1


def test_as_json(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    asked = invoke(capsys, "policy", "accept", "--check", "--json")
    value = json.loads(asked.out)
    assert (asked.code, value["accepted"], value["beyond"][0]["risk"]) == (1, False, "critical")
    assert json.loads(invoke(capsys, "policy", "accept", "--json").out)["accepted"]


def test_a_policy_that_needs_no_word(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    policy.write_text("version: 1\nextends: [workspace]\n")
    assert invoke(capsys, "policy", "accept", "--check").code == 0
    assert "needs acceptance" in invoke(capsys, "policy", "accept").out
    preset = invoke(capsys, "policy", "accept", "workspace")
    assert preset.code == 2
    assert "is a preset" in preset.err


def test_a_copy_elsewhere_is_another_policy(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    invoke(capsys, "policy", "accept")
    (policy.parent / "sub").mkdir()
    (policy.parent / "sub" / "capsule.yaml").write_text(WIDE)
    assert invoke(capsys, "policy", "accept", "sub/capsule.yaml", "--check").code == 1
