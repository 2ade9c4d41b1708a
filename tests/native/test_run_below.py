"""What presets protect at the workspace's top holds where a repository of before begins below it, and only there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.native.running import Capsule

pytestmark = pytest.mark.needs("userns", "landlock", "seccomp-notify")

NAMES = [
    ".envrc",
    ".vscode/tasks.json",
    ".claude/settings.json",
    ".pre-commit-config.yaml",
    "app.code-workspace",
]


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    (workspace / "libs/one/.git").mkdir(parents=True)
    (workspace / "libs/one/.vscode").mkdir()
    (workspace / "libs/one/.vscode/tasks.json").write_text("{}")
    (workspace / "libs/two").mkdir()
    (workspace / "libs/two/.git").write_text("gitdir: ../../elsewhere\n")
    (workspace / "package").mkdir()
    return Capsule(capsule_binary, workspace)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("repository", ["libs/one", "libs/two"])
def test_it_cannot_be_written_or_made(capsule: Capsule, name: str, repository: str) -> None:
    path = capsule.workspace / repository / name
    before = path.read_text() if path.exists() else None
    ran = capsule.run("sh", "-c", f"mkdir -p $(dirname {repository}/{name}); echo x > {repository}/{name}")
    assert ran.code != 0
    assert (path.read_text() if path.exists() else None) == before
    texts = [denial["rule"]["text"] for denial in ran.report["denials"] if denial["rule"]]
    assert any(f"a repository begins at {repository}" in text for text in texts), texts
    assert all("remove" in denial["allow"] for denial in ran.report["denials"])


def test_elsewhere_below_it_can(capsule: Capsule) -> None:
    script = (
        "for d in package libs/one/src new; do mkdir -p $d/.vscode && echo x > $d/.vscode/tasks.json "
        "&& echo x > $d/.envrc || exit 1; done; mkdir new/.git && echo y > new/.envrc && echo x > libs/one/main.c"
    )
    ran = capsule.run("sh", "-c", script)
    assert ran.code == 0, ran.err
    assert (capsule.workspace / "new/.envrc").read_text() == "y\n"


def test_a_line_of_ones_own_holds_where_it_says(capsule: Capsule) -> None:
    options = capsule.policy("filesystem: {protect: [./mine]}\n")
    assert capsule.run("sh", "-c", "echo x > libs/one/mine", options=options).code == 0
    assert capsule.run("sh", "-c", "echo x > mine", options=options).code != 0


def test_a_suggested_policy_keeps_it_too(capsule: Capsule, tmp_path: Path) -> None:
    """Its lines are its own, and whole because it lies elsewhere."""
    words = [str(capsule.binary), "profile", "--out-dir", str(tmp_path / "out"), "--", "touch", "libs/one/x"]
    made = capsule.tell(words)
    assert made.returncode == 0, made.stderr
    options = ["--policy", str(tmp_path / "out/capsule.yaml")]
    ran = capsule.run("sh", "-c", "echo x > libs/one/y && echo x > libs/one/.envrc", options=options)
    assert ran.code != 0
    assert (capsule.workspace / "libs/one/y").exists(), ran.err
    assert not (capsule.workspace / "libs/one/.envrc").exists()


def test_the_line_that_would_allow_it_does(capsule: Capsule) -> None:
    ran = capsule.run("sh", "-c", "echo x > libs/one/.envrc")
    (denial,) = ran.report["denials"]
    options = capsule.policy(denial["allow"] + "\n")
    assert capsule.run("sh", "-c", "echo x > libs/one/.envrc", options=options).code == 0


def test_explain_says_what_a_run_would_do(capsule: Capsule, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("libs/one/.envrc", "libs/two/.vscode/x", "package/.envrc", "libs/one/main.c", ".envrc"):
        answer = invoke(capsys, "policy", "explain", "workspace", "--path", path, "--write", "--json")
        (told,) = json.loads(answer.out)
        ran = capsule.run("sh", "-c", f"mkdir -p $(dirname {path}) && echo x > {path}")
        assert (answer.code == 0) == (ran.code == 0), (path, told, ran.err)


@pytest.mark.needs("git")
def test_git_works_in_a_repository_below(capsule: Capsule) -> None:
    lib = capsule.workspace / "real"
    subprocess.run(["git", "init", "-q", lib], check=True)
    ran = capsule.run(
        "sh", "-c",
        "cd real && echo x > a && git add a && git -c user.name=a -c user.email=b commit -qm one && git status -s",
    )  # fmt: skip
    assert ran.code == 0, ran.err
