from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke


def test_the_most_dangerous_change_comes_first(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nfilesystem:\n  read: [/srv/data]\n  protect: {remove: [/**/.git/hooks]}\nlimits: {disk: 1GiB}\n"  # noqa: E501
    )
    answer = invoke(capsys, "policy", "diff", "workspace", "capsule.yaml")
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert lines[0].startswith("critical  /**/.git/hooks is no longer protected   (preset:workspace:")
    assert "low       may read /srv/data   (capsule.yaml:4)" in lines
    assert lines[-1] == "narrower  disk: 4GiB → 1GiB"
    value = json.loads(invoke(capsys, "policy", "diff", "workspace", "capsule.yaml", "--json").out)
    assert value["wider"]
    assert [change["risk"] for change in value["changes"]] == ["critical", "low", "narrower"]


def test_narrower_and_equal_policies(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [workspace]\nlimits: {disk: 1GiB}\n")
    assert invoke(capsys, "policy", "diff", "workspace", "capsule.yaml").code == 0
    answer = invoke(capsys, "policy", "diff", "workspace", "workspace")
    assert (answer.code, answer.out) == (0, "no difference in what is granted\n")


def test_for_a_tool(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "a.yaml").write_text("version: 1\ntools: {t: {}}\n")
    (workspace / "b.yaml").write_text("version: 1\ntools: {t: {filesystem: {write: [/srv]}}}\n")
    assert invoke(capsys, "policy", "diff", "a.yaml", "b.yaml").code == 0
    assert invoke(capsys, "policy", "diff", "a.yaml", "b.yaml", "--tool", "t").code == 1
