from __future__ import annotations

import json

import pytest

from tests.cli.invoke import invoke
from tests.native.log import Log


def test_what_it_did_counted(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "sessions", "show", "1")
    assert (answer.code, answer.err) == (0, "")
    for part in (
        "programs  git, python3", "/w/src  1 create, 1 rename", "api.example.org", "4.1 kB", "claude", "$0.0081",
        "no name   evil.example \u00d73", "finding   high: Secret read, then sent", "tools     files grep, add",
        'by deny: ["~/.ssh"] (preset:toolchains:62)', "looked 1 times for what",
    ):  # fmt: skip
        assert part in answer.out, part
    assert all(len(line) <= 80 for line in answer.out.splitlines())


def test_json_has_the_same_numbers(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(invoke(capsys, "sessions", "show", "--json").out)
    assert found["events"] == 26
    assert found["hosts"]["api.example.org"] == {
        "requests": 2, "blocked": 1, "bytes_out": 24, "bytes_in": 4096, "methods": {"GET": 1, "POST": 1},
    }  # fmt: skip
    assert found["session"]["run"] == "r-1"
    assert [each["target"] for each in found["denied"]] == [
        "/home/u/.ssh/id_ed25519", "tcp:192.0.2.1:25", "/usr/bin/nc", "kexec_load",
    ]  # fmt: skip


def test_an_unknown_session_says_what_to_do(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "sessions", "show", "r-9")
    assert (answer.code, answer.out) == (2, "")
    assert "see `capsule sessions list`" in answer.err
