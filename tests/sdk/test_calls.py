"""What the security layer saw is told with each call, and is on the log."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from capsule.sdk.calls import Options
from capsule.sdk.pool import POOL


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
