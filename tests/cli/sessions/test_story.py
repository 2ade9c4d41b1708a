from __future__ import annotations

from typing import Any

import pytest

from capsule.cli.sessions.story import (
    View,
    activity,
    beats,
    command_line,
    ending,
    header,
    near,
    public,
    sections,
    times,
    took,
)
from capsule.sessions.timeline import Told, tell
from tests.sessions.recorded import finding, http, session
from tests.sessions.test_timeline import happened

RUN: dict[str, Any] = {
    "run": "r-1", "started": "2026-11-25T19:13:30.000000Z", "ended": None, "command": '["ls","a b"]', "cwd": "/w",
    "policy": "p", "policy_file": "capsule.yaml", "tier": "confined", "degraded": '["cgroup"]', "audit": "all",
    "path": "/w/capsule.log", "state": "rolled_back", "first": 1, "last": 9, "wall_ms": None,
    "cause": None, "code": None,
}  # fmt: skip


def view(**more: Any) -> View:
    return View(80, lambda _, text: text, **more)


def told() -> Told:
    return tell(RUN, happened(*session(), step=300_000))


def test_the_head_says_what_to_know() -> None:
    text = "\n".join(header(RUN, view()))
    assert text.startswith("r-1  ls 'a b'  open\n")
    for part in ("tier confined", "missing layers: cgroup", "entries 1 to 9", "that log is rolled back now"):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"ended": "t", "cause": "exited", "code": 0}, "ok"), ({"ended": "t", "cause": "exited", "code": 3}, "exit 3"),
        ({"ended": "t", "cause": "timeout"}, "timeout"), ({}, "open"), ({"command": None}, "-"),
    ],
)  # fmt: skip
def test_ends(changes: dict[str, Any], word: str) -> None:
    assert ending(RUN | changes) == word


def test_letters_only_where_nothing_else_can_be_shown() -> None:
    lines = [*activity(told(), view(ascii_only=True)), *beats(told(), view(ascii_only=True))]
    assert lines
    assert not [line for line in lines if set(line) & set("▶▁█✗⇄")]


def test_every_part_fits() -> None:
    for width in (40, 80, 120):
        shown = View(width, lambda _, text: text)
        for line in [
            *header(RUN, shown),
            *activity(told(), shown),
            *beats(told(), shown),
            *sections(told(), shown),
        ]:
            assert len(line) <= width, line


def test_small_things() -> None:
    assert (times(1), times(3)) == ("", " \u00d73")
    assert (took(RUN), took(RUN | {"wall_ms": 1500})) == (None, "1.5 s")
    assert near("/w/a", RUN, "/home/u") == "./a"
    assert near("/home/u/a", RUN, "/home/u") == "~/a"
    assert near("/www", RUN, "") == "/www"
    assert command_line(RUN | {"command": None}) == "(not started here)"
    assert public(RUN)["command"] == ["ls", "a b"]
    assert public(RUN)["degraded"] == ["cgroup"]


def test_long_lists_have_an_end() -> None:
    entries = [http(f"h{n}.example") for n in range(30)] + [finding()]
    text = "\n".join(sections(tell(RUN, happened(*entries)), view()))
    assert "… 18 more hosts" in text
    assert "high: Secret read, then sent" in text
