from __future__ import annotations

from typing import Any

import pytest

from capsule.rules.entry import address_of, event_of, seconds, text, words
from tests.sessions.recorded import PYTHON, denied, exec_, http, write

TIME = "2026-11-25T19:13:30.574058Z"


def event(entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return event_of({"seq": 3, "time": TIME, "mono": 9, **entry})


def test_what_runs_is_a_process() -> None:
    kind, found = event(exec_("r-1", "git", "log", "-1"))
    assert kind == "process"
    assert found["process"] == {
        "path": "/usr/bin/git", "name": "git", "pid": 2, "argv": ["git", "log", "-1"], "command": "git log -1",
    }  # fmt: skip
    assert found["event"] == {"type": "process", "time": TIME}
    assert "program" not in found, "the run's own command; and a log that does not say who started it"


def test_who_started_it_is_the_program() -> None:
    parent = {"pid": 1, "program": "/usr/bin/dash", "argv": ["sh", "-c", "git log"]}
    _, found = event({**exec_("r-1", "git", "log"), "parent": parent})
    assert found["program"] == {"path": "/usr/bin/dash", "name": "dash", "pid": 1, "argv": parent["argv"]}
    assert found["process"]["path"] == "/usr/bin/git"
    odd: object
    for odd in (None, 7, [], {"program": 3, "argv": "x", "pid": "1"}):
        assert "path" not in event({**exec_("r-1", "git"), "parent": odd})[1].get("program", {})


def test_what_is_written_is_a_file() -> None:
    kind, found = event(write("/w/src/a.tar.gz", "rename", source="/w/b"))
    assert (kind, found["program"]["name"]) == ("file", "git")
    assert found["file"] == {
        "operation": "rename", "path": "/w/src/a.tar.gz", "name": "a.tar.gz", "ext": "gz", "from": "/w/b",
    }  # fmt: skip
    assert "ext" not in event(write("/home/u/.env"))[1]["file"]


@pytest.mark.parametrize(
    ("operation", "target", "kind", "section"),
    [
        ("read", "/w/x.y", "file", {"operation": "read", "path": "/w/x.y", "name": "x.y", "ext": "y"}),
        ("execute", "/bin/nc", "process", {"path": "/bin/nc", "name": "nc"}),
        ("connect", "tcp:[::1]:25", "tcp", {"address": "::1", "port": 25}),
        ("connect", "unix:/run/x", "tcp", {"address": "unix:/run/x"}),
    ],
)
def test_a_denial_is_an_event_of_its_operation(
    operation: str, target: str, kind: str, section: dict[str, Any]
) -> None:
    name, found = event(denied(target, operation))
    assert (name, found[kind]) == (kind, section)
    assert found["decision"]["action"] == "block"
    assert found["decision"]["rule"] == {"file": "preset:toolchains", "line": 62}
    assert found["denial"]["target"] == target


def test_a_denied_call_is_of_no_section() -> None:
    name, found = event(denied("mount(…)", "syscall", rule=None))
    assert (name, sorted(found)) == ("denied", ["decision", "denial", "event", "program"])
    assert found["decision"] == {"action": "block", "by": "default"}


def test_an_entry_of_egress_is_the_event() -> None:
    entry = http("api.example.org")
    name, found = event(entry)
    assert name == "http"
    assert found == {key: value for key, value in entry.items() if key not in ("type", "run")}
    assert found["program"] == PYTHON


def test_an_unknown_entry_is_its_own_event() -> None:
    assert event({"type": "machine.started", "run": None, "odd": [1]}) == ("machine.started", {"odd": [1]})


def test_texts() -> None:
    assert text({"bytes": "L/8="}) == "/\\xff"
    assert text({"bytes": "!"}) is None
    assert text({"bytes": "L/8=", "more": 1}) is text(3) is None
    assert words(["a", 3, {"bytes": "Yg=="}]) == ["a", "b"]
    assert words("ab") == []
    assert address_of("tcp:1.2.3.4:x") == {"address": "tcp:1.2.3.4:x"}


def test_milliseconds_are_shown_as_seconds() -> None:
    assert [seconds(value) for value in (0, 1500, 60_000)] == ["0 s", "1.5 s", "60 s"]
    assert [seconds(value) for value in (None, "1", 1.5, 1 << 53, 10**400)] == [None] * 5
