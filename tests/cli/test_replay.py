from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.native.log import Log
from tests.native.running import Capsule
from tests.sessions.recorded import http


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_a_run_under_another_policy(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path
) -> None:
    Capsule(capsule_binary, workspace).run(
        "sh", "-c", "for n in 1 2 3 4 5; do echo $n > f$n; done; git --version"
    )
    same = invoke(capsys, "replay", "--policy", "workspace")
    assert same.code == 0
    assert "0 of " in same.out
    changed = invoke(capsys, "replay", "--policy", "readonly")
    assert changed.code == 1
    assert changed.out.startswith("would be refused\n")
    assert "create ./… (5 names)" in changed.out
    assert "(preset:readonly:" in changed.out
    assert "reads were not recorded" in changed.out
    assert all(len(line) <= 80 for line in changed.out.splitlines()[:-1])
    found = json.loads(invoke(capsys, "replay", "--policy", "readonly", "--json").out)
    files = [change for change in found["changes"] if change["type"] == "file"]
    assert (sum(change["count"] for change in files), len(files)) == (5, 5)
    # Variables of the caches, which it does not set.
    variables = [change for change in found["changes"] if change["type"] == "environment"]
    assert found["changed"] == 5 + len(variables)
    assert "variable UV_CACHE_DIR" in [change["what"] for change in variables if change["now"] == "block"]
    assert f"variable … ({len(variables)} names)" in changed.out
    assert files[0]["place"].startswith("preset:readonly:")


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_repositories_that_the_run_made_are_its_own_there_too(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path
) -> None:
    script = """
git init -q sub && git -C sub config user.name x && echo true > sub/.git/hooks/pre-commit
mv sub moved && echo true > moved/.git/hooks/pre-push
mkdir sub sub/.git; echo true > sub/.git/config; rm -r moved
echo true > .git/hooks/pre-commit
"""
    subprocess.run(["git", "init", "-q", str(workspace)], check=True)
    Capsule(capsule_binary, workspace).run("sh", "-c", script)
    assert (workspace / "sub/.git/config").is_file()
    assert not (workspace / ".git/hooks/pre-commit").exists()
    same = invoke(capsys, "replay", "--policy", "workspace", "--json")
    found = json.loads(same.out)
    assert (same.code, found["changed"], found["changes"]) == (0, 0, [])
    assert found["same"] > 10


@pytest.fixture
def requests(capsule_binary: Path, workspace: Path) -> None:
    Log(capsule_binary, workspace / "capsule.log").record(
        [http("a.example", "/v1/\x1b[2J"), http("a.example", "/v2"), http("b.example", "/x")]
    )


def test_requests_are_decided_by_hosts_and_rules(
    capsys: pytest.CaptureFixture[str], requests: None, workspace: Path
) -> None:
    (workspace / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {id: no-v2, on: http, when: http.path == '/v2', action: block, reason: old}\n"
    )
    (workspace / "new.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork: {hosts: [a.example], unlisted: ask}\nrules: [./rules.yaml]\n"
    )
    answer = invoke(capsys, "replay", "--policy", "new.yaml")
    assert answer.code == 1
    lines = answer.out.splitlines()
    # A path with a control character is one that a rule is told none of: it blocks.
    assert "1  GET a.example/v1/\\x1b[2J  old (not known: http.path) (rules.yaml:3)" in lines[2]
    assert "1  GET a.example/v2  " in lines[3]
    assert lines[3].endswith("  old (rules.yaml:3)")
    assert lines[4] == "would be asked about"
    assert "GET b.example/x" in lines[6]
    assert lines[-1] == "3 of 3 recorded events of the session would be decided otherwise"


def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], requests: None, workspace: Path) -> None:
    assert invoke(capsys, "replay").code == 2
    assert "there is no such preset or file" in invoke(capsys, "replay", "--policy", "none").err
    (workspace / "bad.yaml").write_text("version: 1\nnetwork: {hosts: [a.example]}\nrules: [./gone.yaml]\n")
    assert invoke(capsys, "replay", "--policy", "bad.yaml").code == 2
