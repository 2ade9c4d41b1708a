"""What a machine's log tells, entry by entry; hostile values in it are no error."""

from __future__ import annotations

from typing import Any

import pytest

from capsule.sessions.machine import Machine, Step
from capsule.sessions.timeline import tell
from tests.sessions.recorded import guest, machine
from tests.sessions.test_timeline import happened

RUN = {"run": "r-m-0badcafe", "started": "2026-11-25T19:13:30.000000Z", "cwd": None}


def test_the_story_of_a_machine() -> None:
    told = tell(RUN, happened(*machine()))
    assert [(beat.verb, beat.who, *beat.names, beat.note) for beat in told.beats] == [
        ("began", "", "from a template, tcg", ""),
        ("ran", "", "ls -l", ""),
        ("failed", "", "ls: exit 2", ""),
        ("refused", "host", "run rm -r", "not here (rules.yaml:3)"),
        ("wrote", "host", "/root/x", ""),
        ("refused", "", "connect b.example:25", told.beats[5].note),
        ("halted", "", "as asked", ""),
    ]
    assert told.beats[5].note
    assert dict(told.programs) == {"ls": 1}, "what was refused did not run"
    assert {place: dict(counts) for place, counts in told.files.items()} == {"/root": {"write": 1}}
    assert (len(told.refusals), dict(told.unknown)) == (2, {})


def test_what_the_guest_says_of_itself_is_told_as_its_word() -> None:
    told = tell(RUN, happened(*guest()))
    assert [(beat.verb, beat.who, *beat.names, beat.note) for beat in told.beats] == [
        ("ran", "guest", "ls -l", ""),
        ("renamed", "guest", "/w/a → /w/b", ""),
        ("noted", "guest", "reports of changes are lost", "3 at least: the guest did not send them"),
        ("noted", "", "reports of processes are lost", "4 at least: too many to record"),
        ("noted", "guest", "5 directories are not watched", ""),
    ]
    assert dict(told.programs) == {"ls (guest)": 1}, "counted apart from what the host saw"
    assert {place: dict(counts) for place, counts in told.files.items()} == {"/w": {"rename": 1}}
    assert (told.refusals, dict(told.unknown)) == ([], {})


def test_an_end_belongs_to_the_newest_command_of_its_id() -> None:
    """Ids begin again with every start of a machine."""
    machine = Machine()
    for name, code in (("one", 1), ("two", 2)):
        assert machine.step(
            "machine.exec", {"event": {"id": "host-1"}, "process": {"name": name, "command": name}}
        )
        assert machine.step("machine.exit", {"exec": "host-1", "code": code}) == Step(
            "failed", f"{name}: exit {code}"
        )
    assert machine.step("machine.exit", {"exec": "host-1", "code": 0}) is None


def test_who_attends_to_a_command_and_a_deadline_are_told() -> None:
    step = Machine().step
    assert step("machine.exec", {"event": {"id": "host-1"}, "process": {"name": "cat", "command": "cat"}})
    size = ("resize", "its terminal has 30 rows, 100 columns")
    for how, note in (("connect", ""), ("stdin", "its input"), ("kill", "signal 9"), size):
        attended = {"exec": "host-1", "pid": 7, "as": how, "signal": 9, "rows": 30, "columns": 100}
        assert step("machine.attended", attended) == Step("attended", "cat, process 7", "host", note)
    assert step("machine.attended", {"exec": "host-2", "as": "connect"}) == Step(
        "attended", "a command", "host"
    )
    assert step("machine.deadline", {"reason": "moved", "after_ms": 1500}) == Step(
        "noted", "deadline moved: ends after 1.5 s", "host"
    )
    assert step("machine.deadline", {"reason": "lifted"}) == Step("noted", "deadline lifted", "host")
    assert step("machine.deadline_came", {"after_ms": 1500}) == Step("noted", "its time of 1.5 s was over")


def test_a_live_share_is_told_with_what_it_refused() -> None:
    step = Machine().step
    assert step("machine.shared", {"directory": "/w"}) == Step("noted", "shares /w live", "host")
    refused = step("machine.share_refused", {"act": "make", "path": "out", "why": "a link"})
    assert refused == Step("refused", "make out in the share", "host", "a link")


@pytest.mark.parametrize(
    "entry",
    [
        "machine.exec", "machine.exit", "machine.file", "machine.dial", "machine.started", "machine.shared",
        "machine.share_refused",
        "machine.attended", "machine.deadline", "machine.deadline_came",
        "guest.process", "guest.exit", "guest.file", "guest.lost", "guest.odd",
    ],
)  # fmt: skip
@pytest.mark.parametrize("odd", [None, 3, "\x1b[2J", [], {"a": 1}, {"bytes": "/w=="}])
def test_odd_values_are_no_error(entry: str, odd: Any) -> None:
    names = (
        "event",
        "process",
        "file",
        "dial",
        "decision",
        "exec",
        "code",
        "signal",
        "reason",
        "problems",
        "what",
        "count",
        "by",
        "as",
        "pid",
        "after_ms",
    )
    Machine().step(entry, dict.fromkeys(names, odd))
    Machine().step(
        entry, {name: dict.fromkeys(("action", "rule", "id", "path", "host"), odd) for name in names}
    )
    Machine().step("machine.network_problem", dict.fromkeys(names, odd))


def test_servers_of_mcp_begin_and_end() -> None:
    machine = Machine()
    decision = {
        "action": "allow",
        "by": "grant",
        "rule": {"id": "mcp.servers a", "file": "m.yaml", "line": 3},
    }
    started = {"server": "a", "command": ["x"], "policy": "readonly", "decision": decision}
    assert machine.step("machine.mcp_started", started) == Step(
        "began", "MCP server a, under readonly (m.yaml:3)", "host"
    )
    assert machine.step("machine.mcp_ended", {"server": "a", "code": 0}) == Step(
        "halted", "MCP server a", "host"
    )
    assert machine.step("machine.mcp_ended", {"server": "a", "code": 7}) == Step(
        "failed", "MCP server a: exit 7", "host"
    )
