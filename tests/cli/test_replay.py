from __future__ import annotations

import json
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
    assert (found["changed"], len(found["changes"])) == (5, 5)
    assert found["changes"][0]["place"].startswith("preset:readonly:")


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
    assert "1  GET a.example/v2  old (rules.yaml:3)" in lines[2]
    assert lines[3] == "would be asked about"
    assert "GET b.example/x" in lines[5]
    assert lines[-1] == "2 of 3 recorded events of the session would be decided otherwise"


def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], requests: None, workspace: Path) -> None:
    assert invoke(capsys, "replay").code == 2
    assert "there is no such preset or file" in invoke(capsys, "replay", "--policy", "none").err
    (workspace / "bad.yaml").write_text("version: 1\nnetwork: {hosts: [a.example]}\nrules: [./gone.yaml]\n")
    assert invoke(capsys, "replay", "--policy", "bad.yaml").code == 2
