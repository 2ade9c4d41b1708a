"""A rule that nobody would ask is refused, at its place; every event that can be decided is listed once."""

from __future__ import annotations

import pytest

from capsule.rules import event as table
from capsule.rules.deciders import EGRESS, MACHINE, refuse_undecided
from capsule.rules.rule import RuleError, parse_rules


def one(on: str, action: str) -> str:
    return f"version: 1\nrules:\n  - id: a\n    on: {on}\n    when: 'true'\n    action: {action}\n"


@pytest.mark.parametrize(
    ("on", "action", "place", "says"),
    [
        ("process", "block", "4:9", "process:"),
        ("file", "ask", "4:9", "filesystem:"),
        ("[http, process]", "allow", "4:16", "process:"),
        ("dns", "ask", "6:13", "no resolver waits for a person"),
    ],
)
def test_what_is_never_decided_is_refused_with_its_place(on: str, action: str, place: str, says: str) -> None:
    with pytest.raises(RuleError) as caught:
        refuse_undecided([parse_rules(one(on, action), "r.yaml")], EGRESS)
    assert f"r.yaml:{place}: rule a: " in caught.value.message
    assert says in caught.value.message
    assert says in caught.value.problems[0].next_step


def test_every_other_event_is_decided() -> None:
    for on, asked in EGRESS.items():
        for action in asked.actions:
            if action != "rewrite":
                assert refuse_undecided([parse_rules(one(on, action), "r.yaml")], EGRESS)
    assert set(table.TYPES) - set(EGRESS) == {"process", "file"}


def test_a_machine_decides_commands_and_files_too() -> None:
    for on, asked in MACHINE.items():
        for action in asked.actions:
            if action != "rewrite":
                assert refuse_undecided([parse_rules(one(on, action), "r.yaml")], MACHINE)
    assert set(table.TYPES) == set(MACHINE)
