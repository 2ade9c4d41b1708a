from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from capsule.errors import ReportError
from capsule.sandbox.report import MAX_BYTES, DenialRule, read_report

DENIAL: dict[str, Any] = {
    "time": "2026-01-02T03:04:05.000006Z", "program": "/usr/bin/cat", "pid": 7, "operation": "read", "syscall": "openat",  # noqa: E501
    "target": "/home/u/.ssh/id", "layer": "view", "errno": "ENOENT",
    "rule": {"text": 'hide: ["~"]', "file": "preset:strict", "line": 44},
    "allow": 'filesystem: read: ["~/.ssh/id"]', "count": 1,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "capsule": 1, "run": "r-1", "command": ["git", "status"], "cwd": "/w",
    "exit": {"code": 0, "cause": "exited", "signal": None, "limit": None, "reason": None},
    "policy": {"name": "workspace", "digest": "blake3:00", "file": "capsule.yaml"},
    "enforced": {
        "tier": "full", "layers": {"seccomp": "enforced", "cgroup": "unavailable"}, "landlock_abi": 7,
        "digest": "blake3:00", "degraded": [],
    },
    "denials": [DENIAL], "denials_total": 1, "findings": [],
    "repositories": ["/w/sub/.git"], "executed": 12, "written": 4,
    "usage": {"wall_ms": 12, "cpu_ms": 8, "max_rss_bytes": 1},
    "log": {"path": "/w/capsule.log", "id": "ab", "first": 1, "last": 9},
}  # fmt: skip


def test_a_whole_report() -> None:
    report = read_report(json.dumps(REPORT).encode() + b"\n")
    assert report.version == 1
    assert report.command == ("git", "status")
    assert (report.exit.cause, report.exit.code) == ("exited", 0)
    assert report.denials[0].rule == DenialRule('hide: ["~"]', "preset:strict", 44)
    assert report.enforced is not None
    assert report.enforced.layers["cgroup"] == "unavailable"
    assert report.log is not None
    assert report.log.last == 9
    assert report.repositories == ("/w/sub/.git",)


def test_a_refused_run_has_no_log_and_no_usage() -> None:
    exit_ = {"code": 125, "cause": "refused", "signal": None, "limit": None, "reason": "no Landlock"}
    refused = REPORT | {
        "exit": exit_,
        "policy": None,
        "enforced": None,
        "usage": None,
        "log": None,
        "denials": [],
    }
    report = read_report(json.dumps(refused).encode())
    assert (report.exit.reason, report.log, report.denials) == ("no Landlock", None, ())


@pytest.mark.parametrize(
    "change",
    [
        {"capsule": 2},
        {"extra": 1},
        {"exit": {"code": 0}},
        {"exit": REPORT["exit"] | {"cause": "lucky"}},
        {"denials": [DENIAL | {"operation": "sing"}]},
        {"denials": [DENIAL | {"layer": "hope"}]},
        {"denials_total": "1"},
        {"findings": [{"id": "a"}]},
        {"command": "git"},
    ],
)
def test_other_shapes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ReportError, match="not a report of a run") as caught:
        read_report(json.dumps(REPORT | change).encode())
    assert "capsule binary" in caught.value.next_step


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b"\xff", b"[" * 200_000])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ReportError):
        read_report(data)


def test_the_size_is_capped() -> None:
    with pytest.raises(ReportError, match="more than"):
        read_report(b" " * (MAX_BYTES + 1))


def test_the_binarys_own_reports_are_read(capsule_binary: Path, workspace: Path) -> None:
    """Refused before anything ran, so that no host is too poor for it."""
    done = subprocess.run(
        [capsule_binary, "run", "--json", "--policy", "./none.yaml", "--", "true"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 125
    report = read_report(done.stderr.splitlines()[-1])
    assert (report.run, report.exit.cause, report.command) == (None, "refused", ("true",))
    assert "none.yaml" in str(report.exit.reason)
