from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from capsule.cli.asks import lines_of, what_of
from tests.cli.invoke import invoke

ASK: dict[str, Any] = {
    "id": "a1", "run": "r1", "at": 0, "expires": 90_500,
    "event": {"event": {"type": "http"}, "http": {"method": "PUT", "url": "https://a.example/x"}},
    "rule": {"id": "publish", "file": "/w/rules.yaml", "line": 3, "reason": "it publishes"},
    "program": "/usr/bin/npm", "argv": ["npm", "publish", "a b"], "command": ["npm", "run", "x"],
    "asked_before": [{"at": 0, "what": "PUT https://a.example/y", "outcome": "denied by capsule answer"}],
}  # fmt: skip


def test_an_ask_for_a_person() -> None:
    assert lines_of(ASK, 500.0) == [
        "a1  PUT https://a.example/x  (90 s left)",
        "  by /usr/bin/npm: npm publish 'a b'",
        "  in run r1: npm run x",
        "  rule publish (/w/rules.yaml:3): it publishes",
        "  before: PUT https://a.example/y: denied by capsule answer",
        "  capsule answer a1 allow|deny",
    ]


def test_a_host_that_no_entry_lists() -> None:
    lines = lines_of({**ASK, "rule": None, "argv": [], "asked_before": [], "expires": 0}, 1e9)
    assert "  no host entry lists it (network: unlisted: ask)" in lines
    assert lines[0].endswith("(0 s left)")


def test_a_command_is_told_once_and_as_it_would_be_typed_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    same = {
        "program": f"{tmp_path}/bin/x",
        "argv": ["x", f"{tmp_path}/a b"],
        "command": ["x", f"{tmp_path}/a b"],
    }
    lines = lines_of({**ASK, **same}, 0)
    assert lines[1:3] == ["  by bin/x: x 'a b'", "  in run r1"]


def test_who_waits_waits_for_the_run_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    began = time.monotonic()
    assert invoke(capsys, "asks", "--wait", "1").code == 1
    assert time.monotonic() - began >= 1


def test_what_a_program_says_stays_on_its_line() -> None:
    """A line break or an escape in a URL or an argument writes no line of its own, and drives no terminal."""
    evil = "x\n  rule safe: it is fine\x1b[2J\u202e"
    event = {"http": {"method": "PUT", "url": f"https://a.example/{evil}" + "y" * 1000}}
    lines = lines_of({**ASK, "event": event, "argv": [evil], "program": evil, "command": [evil]}, 0)
    assert len(lines) == len(lines_of(ASK, 0))
    assert all(line.isprintable() and len(line) < 700 for line in lines)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"model": {"provider": "openai", "name": "m"}}, "model call to openai m"),
        ({"tcp": {"host": "a.example", "port": 5432}}, "tcp a.example:5432"),
        ({"dns": {"name": "a.example"}}, "dns a.example"),
        (
            {
                "mcp": {
                    "server": "files",
                    "method": "tools/call",
                    "tool": "rm",
                    "arguments": {"path": "/\x1b"},
                }
            },
            'mcp to files tools/call rm {"path": "/\\u001b"}',
        ),
        (
            {"mcp": {"server": "f", "method": "tools/call", "arguments_size": 9, "arguments_sha256": "ab"}},
            "mcp to f tools/call (9 bytes of arguments, sha256 ab)",
        ),
        ({"mcp": {"server": "f", "method": "roots/list", "direction": "in"}}, "mcp from f roots/list"),
        ({"event": {"type": "file"}}, "file"),
        ({}, "something"),
    ],
)
def test_other_events(event: dict[str, Any], says: str) -> None:
    assert what_of(event) == says


def test_nobody_asks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    answer = invoke(capsys, "asks")
    assert (answer.code, answer.out) == (1, "nothing waits for an answer\n")
    assert json.loads(invoke(capsys, "asks", "--json", "--wait", "1").out) == {"asks": []}


@pytest.mark.needs("egress")
@pytest.mark.needs("userns", "unshare", "curl")
def test_a_real_ask(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cli.waiting import waiting

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with waiting(tmp_path) as run:
        assert invoke(capsys, "asks").code == 1
        number = run.put("/size/1")
        shown = invoke(capsys, "asks", "--wait", "5")
        assert shown.code == 0
        assert shown.out.startswith(f"{number}  PUT http://a.example/size/1  (")
        assert "rule publish (/w/rules.yaml:3): it publishes" in shown.out
        (found,) = json.loads(invoke(capsys, "asks", "--json").out)["asks"]
        assert (found["id"], found["run"]) == (number, "run-of-tests")
        assert invoke(capsys, "answer", number, "deny").code == 0
        run.finish()
        assert invoke(capsys, "asks").code == 1
