from __future__ import annotations

from pathlib import Path

from capsule.cli.policy.access import load_access, variables_of


def test_variables_stand_for_the_policys_directory_and_this_user(workspace: Path, home: Path) -> None:
    (workspace / "sub").mkdir()
    (workspace / "sub" / "capsule.yaml").write_text("version: 1\nenv: {pass: [A]}")
    policy, access = load_access("sub/capsule.yaml", None)
    assert access.variables.workspace == str(workspace.resolve() / "sub")
    assert access.variables.home == str(home.resolve())
    assert access.variables.cwd == str(workspace.resolve())
    assert access.variable("A").granted
    assert variables_of(policy) == access.variables


def test_for_a_preset_the_workspace_is_the_working_directory(workspace: Path) -> None:
    _, access = load_access("workspace", None)
    assert access.variables.workspace == str(workspace.resolve())
