"""Which sandbox a tool gets, and when it gets a new one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import capsule
from capsule.sdk.pool import POOL
from capsule.sdk.runner import policy_reference


def test_tools_without_overrides_share_a_sandbox(tools: ModuleType) -> None:
    tools.add(1)
    tools.count()
    assert POOL.session(POOL.key(None, "add")) is POOL.session(POOL.key(None, "count"))


def test_a_tool_with_overrides_has_its_own(workspace: Path, tools: ModuleType) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\ntools:\n  write:\n    filesystem:\n      deny: [./guarded]\n"
    )
    (workspace / "guarded").write_text("before")
    assert POOL.key(None, "write") != POOL.key(None, "read")
    with pytest.raises(PermissionError):
        tools.write(str(workspace / "guarded"), "after")
    assert tools.read(str(workspace / "guarded")) == "before"
    assert tools.write(str(workspace / "free"), "x") == 1


def test_a_policy_that_changes_makes_a_new_sandbox(workspace: Path, tools: ModuleType) -> None:
    (workspace / "data").write_text("d")
    assert tools.read(str(workspace / "data")) == "d"
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nfilesystem:\n  deny: [./data]\n"
    )
    with pytest.raises(PermissionError):
        tools.read(str(workspace / "data"))
    (workspace / "capsule.yaml").unlink()
    assert tools.read(str(workspace / "data")) == "d"


def test_a_policy_that_is_wrong_is_an_error_with_its_line(workspace: Path, tools: ModuleType) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nfilesytem: {}\n")
    with pytest.raises(capsule.PolicyError, match=r"capsule.yaml:2:1: unknown key"):
        tools.add(1)


def test_references(workspace: Path) -> None:
    assert policy_reference(None) is None
    assert policy_reference("readonly") == "readonly"
    assert policy_reference("p.yaml") == str(workspace / "p.yaml")
    assert policy_reference(Path("sub/p")) == str(workspace / "sub" / "p")
