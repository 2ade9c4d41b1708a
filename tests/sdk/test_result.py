"""Reports become results; anything that is not a report is an error."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from capsule.errors import ReportError
from capsule.sdk.result import Denial, RunResult, ToolResult, last_result

REPORT: dict[str, Any] = {
    "capsule": 1, "run": "r-1", "command": ["git", "status"], "cwd": "/w",
    "exit": {"code": 1, "cause": "exited", "signal": None, "limit": None, "reason": None},
    "policy": {"name": "workspace", "digest": "blake3:0", "file": "preset:workspace"},
    "enforced": {"tier": "full", "layers": {"landlock": "enforced"}, "landlock_abi": 7, "digest": "blake3:0",
                 "degraded": []},
    "denials": [{"time": "2026-01-01T00:00:00.000000Z", "program": "/usr/bin/git", "pid": 2, "operation": "read",
                 "syscall": "openat", "target": "/home/u/.ssh/id", "layer": "supervisor", "errno": "EACCES",
                 "rule": {"text": "deny: ~/.ssh", "file": "capsule.yaml", "line": 3},
                 "allow": "filesystem: read: [\"~/.ssh/id\"]", "count": 2}],
    "denials_total": 2, "findings": [], "repositories": [], "executed": 1, "written": 0,
    "usage": {"wall_ms": 12, "cpu_ms": 8, "max_rss_bytes": 1},
    "log": {"path": "/w/capsule.log", "id": "00", "first": 1, "last": 9},
}  # fmt: skip


def test_a_report_becomes_a_result_that_tells_its_story() -> None:
    result = RunResult.from_report(json.dumps(REPORT).encode(), b"out\xff", b"err")
    assert (result.code, result.ok, result.text, result.error_text) == (1, False, "out\ufffd", "err")
    assert result.denials[0].rule is not None
    assert result.log is not None
    assert result.log.last == 9
    assert str(result).splitlines() == [
        "git status: exit 1 in 12 ms, full tier, 2 denied",
        "  denied read /home/u/.ssh/id (2 times) [supervisor, EACCES: capsule.yaml:3: deny: ~/.ssh; "
        'to allow: filesystem: read: ["~/.ssh/id"]]',
    ]


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"null", json.dumps(REPORT | {"capsule": 2}).encode(),
     json.dumps(REPORT | {"exit": {"code": 1}}).encode(), json.dumps(REPORT | {"denials": [{}]}).encode()],
)  # fmt: skip
def test_what_is_not_a_report_is_an_error(text: bytes) -> None:
    with pytest.raises(ReportError):
        RunResult.from_report(text)


def test_a_denial_without_rule_says_that_nothing_allows_it() -> None:
    denial = Denial("connect", "tcp:1.2.3.4:443", "/usr/bin/curl", "network", "EACCES")
    assert str(denial) == "denied connect tcp:1.2.3.4:443 [network, EACCES: nothing allows it]"
    odd = dataclasses.replace(denial, target="x\ndenied\x1b[2J")
    assert str(odd).startswith(r"denied connect x\x0adenied\x1b[2J [")


def test_there_is_no_last_result_before_a_call() -> None:
    assert last_result() is None or isinstance(last_result(), ToolResult)


def test_findings_are_told() -> None:
    finding = {"time": "2026-01-01T00:00:00.000000Z", "id": "a", "title": "A git hook was written", "level": "high",
               "file": "pack:agents/a.yml", "line": 1, "count": 2}  # fmt: skip
    result = RunResult.from_report(json.dumps(REPORT | {"findings": [finding]}).encode())
    assert result.findings[0].count == 2
    assert str(result).splitlines()[-1] == (
        "  found high A git hook was written (2 times) [pack:agents/a.yml:1]"
    )
