from __future__ import annotations

from typing import Any

import pytest

from capsule.rules.entry import event_of
from capsule.sessions.subject import place_of, subject_of
from tests.sessions.recorded import denied, dns, exec_, http, mcp, model, tcp, write


@pytest.mark.parametrize(
    ("entry", "subject"),
    [
        (exec_(), "git status"), (write("/w/a"), "git: create /w/a"),
        (write("/w/b", "rename", source="/w/a"), "git: rename /w/a → /w/b"),
        (denied("/etc/shadow"), "cat: read /etc/shadow"), (denied("/bin/nc", "execute"), "/bin/nc"),
        (denied("mount", "syscall"), "cat: syscall mount"),
        (http("a.example", "/x", "PUT"), "python3: PUT a.example/x"),
        (dns("a.example"), "python3: name a.example A"), (tcp("a.example"), "python3: a.example:443"),
        (model(), "python3: anthropic claude"), (mcp(), "python3: files tools/call grep"),
        ({"type": "machine.odd", "run": None}, "machine.odd"),
    ],
)  # fmt: skip
def test_few_words(entry: dict[str, Any], subject: str) -> None:
    kind, event = event_of({"time": "t", **entry})
    assert subject_of({**event, "event": {"type": kind}}) == subject


def test_odd_events_have_a_subject_too() -> None:
    for event in (
        {},
        {"event": 3},
        {"event": {"type": "http"}, "http": {"host": 3}},
        {"event": {"type": "tcp"}, "tcp": []},
    ):
        assert subject_of(event)
    assert place_of({"address": "10.0.0.1"}) == "10.0.0.1"
