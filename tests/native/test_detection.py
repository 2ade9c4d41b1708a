"""`capsule run` with detection: what the command does is found while it runs, recorded, reported and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("egress", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]

POLICY = "audit: all\ndetect: [agents]\n"
HOOK = "mkdir -p sub/.githooks && echo 'exit 0' > sub/.githooks/pre-commit && echo ok"
SECRET = "cat .netrc && cat .netrc && sleep {after}"


def entries(workspace: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (workspace / "capsule.log").read_text().splitlines()]
    return [line for line in lines if "type" in line]


def findings(workspace: Path) -> dict[str, dict[str, Any]]:
    found = [entry for entry in entries(workspace) if entry["type"] == "egress.finding"]
    return {entry["rule"]["id"]: entry for entry in reversed(found)}


def test_a_hook_that_is_planted_is_found_within_the_run(capsule_binary: Path, workspace: Path) -> None:
    capsule = Capsule(capsule_binary, workspace)
    ran = capsule.run("sh", "-c", HOOK, options=capsule.policy(POLICY))
    assert (ran.code, ran.out) == (0, "ok\n"), ran.err
    finding = findings(workspace)["agents-git-hook-written"]
    assert finding["rule"]["level"] == "high"
    (event,) = finding["events"][-1:]
    run, _, seq = event.rpartition("/")
    assert run == ran.report["run"]
    written = next(entry for entry in entries(workspace) if entry["seq"] == int(seq))
    assert written["target"].endswith("/.githooks/pre-commit")
    ended = next(entry for entry in entries(workspace) if entry["type"] == "run.ended")
    assert finding["seq"] < ended["seq"], "within the run"
    told = {each["id"]: each for each in ran.report["findings"]}
    assert told["agents-git-hook-written"]["title"] == "A git hook was written"


def test_a_secret_that_is_read_is_told_to_a_person_once(capsule_binary: Path, workspace: Path) -> None:
    (workspace / ".netrc").write_text("machine a.example password x\n")
    capsule = Capsule(capsule_binary, workspace)
    options = capsule.policy(POLICY)
    done = capsule.tell(capsule.command("sh", "-c", SECRET.format(after=4), options=options))
    lines = [line for line in done.stderr.splitlines() if "A file of credentials was read" in line]
    assert lines == [
        "capsule: found   medium  A file of credentials was read \u00d72   (pack:agents/credential-file-read.yml:1)"
    ], done.stderr
    read = findings(workspace)["agents-credential-file-read"]
    ended = next(entry for entry in entries(workspace) if entry["type"] == "run.ended")
    assert read["mono"] < ended["mono"] - 200_000, "it was found while the command ran, not at its end"


def test_an_ordinary_command_is_silent(capsule_binary: Path, workspace: Path) -> None:
    capsule = Capsule(capsule_binary, workspace)
    ran = capsule.run("sh", "-c", "echo x > plain && cat plain", options=capsule.policy(POLICY))
    assert (ran.code, ran.out, ran.report["findings"]) == (0, "x\n", []), ran.err
    assert findings(workspace) == {}
