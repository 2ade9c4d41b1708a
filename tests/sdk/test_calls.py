"""What the security layer saw is told with each call, and is on the log."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

import capsule
from capsule.sdk.calls import Options
from capsule.sdk.pool import POOL


@pytest.fixture
def guarded(workspace: Path) -> Path:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nfilesystem:\n  deny: [./secret]\n"
    )
    (workspace / "secret").write_text("s3cret")
    return workspace / "secret"


def test_a_denial_that_raised_is_a_note_on_the_exception(guarded: Path, tools: ModuleType) -> None:
    with pytest.raises(PermissionError) as caught:
        tools.read(str(guarded))
    assert any("denied read" in note and "capsule.yaml:4" in note for note in caught.value.__notes__)
    assert [denial.target for denial in caught.value.denials] == [str(guarded.resolve())]  # type: ignore[attr-defined]


def test_a_denial_is_with_the_result_of_its_own_call(guarded: Path, tools: ModuleType) -> None:
    clean = tools.add.call(1)
    assert (clean.value, clean.denials) == (3, ())
    with pytest.raises(PermissionError):
        tools.read(str(guarded))
    result = capsule.last_result()
    assert result is not None
    assert [(denial.operation, denial.target) for denial in result.denials] == [
        ("read", str(guarded.resolve()))
    ]
    assert tools.add.call(1).denials == ()


def test_every_call_is_on_the_log_before_and_after(
    workspace: Path, tools: ModuleType, capsule_binary: Path
) -> None:
    result = tools.add.call(40, b=2)
    with pytest.raises(KeyError):
        tools.fail("key")
    tools.echo({"password": "hunter2hunter2", "n": 1})
    POOL.close()
    entries = [json.loads(line) for line in (workspace / "capsule.log").read_text().splitlines()]
    by_number = {entry["seq"]: entry for entry in entries if "seq" in entry}
    first, last = by_number[result.log[0]], by_number[result.log[1]]
    assert (first["type"], first["tool"], first["call"]) == ("call.started", "add", last["call"])
    assert first["function"].endswith(":add")
    assert "40" in first["arguments"]
    assert (last["type"], last["outcome"]) == ("call.ended", "returned")
    calls = [entry for entry in entries if entry.get("type", "").startswith("call.")]
    assert [entry.get("outcome") for entry in calls] == [None, "returned", None, "raised", None, "returned"]
    assert "hunter2" not in (workspace / "capsule.log").read_text()
    checked = subprocess.run([capsule_binary, "verify"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_tool_cannot_write_its_log(workspace: Path, tools: ModuleType) -> None:
    tools.add(1)
    before = (workspace / "capsule.log").read_bytes()
    with pytest.raises(PermissionError):
        tools.write(str(workspace / "capsule.log"), "nothing happened")
    assert (workspace / "capsule.log").read_bytes().startswith(before)


def test_options_have_bounds() -> None:
    with pytest.raises(ValueError, match="timeout"):
        Options("x", -1.0)
    with pytest.raises(ValueError, match="result_limit"):
        Options("x", None, 0)
