from __future__ import annotations

from typing import Any

from capsule.cli.files import load_policy
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sessions.environment import Environment, Granted, variables_of

START: dict[str, Any] = {
    "environment": {
        "passed": ["PATH", "CI", "A-B", "LD_LIBRARY_PATH", "MY_KEY_ID"],
        "set": ["TMPDIR", "X_PASSWORD", "LOST"],
        "chosen": ["C"],
        "withheld": ["AWS_X", "[omitted:3 items:00]"],
    }
}


def strict() -> Access:
    policy = load_policy("strict")
    return Access(compile_policy(policy), Variables("/w", "/h", "/w"), policy.sections.environment)


def test_each_variable_is_an_event_but_those_of_the_command_line() -> None:
    found = [(each["environment"]["name"], "decision" in each) for each in variables_of(START)]
    assert found == [
        ("PATH", False), ("CI", False), ("A-B", False), ("LD_LIBRARY_PATH", False), ("MY_KEY_ID", False),
        ("TMPDIR", False), ("X_PASSWORD", False), ("LOST", False), ("AWS_X", True),
    ]  # fmt: skip
    assert list(variables_of({})) == list(variables_of({"environment": {"passed": 7, "set": [{}]}})) == []


def test_what_is_proposed_over_a_preset() -> None:
    seen = Environment()
    seen.add(START)
    seen.add({"environment": {"passed": ["CI"], "set": [], "chosen": [], "withheld": []}})
    seen.add({"environment": "x"})
    assert (seen.unknown, seen.incomplete, dict(seen.withheld)) == (1, 1, {"AWS_X": 1})
    granted, unwritable, unknown = seen.grants(strict(), {"TMPDIR": "/tmp", "X_PASSWORD": "p"})
    why = "the names above would not pass with it; `pass` still names what does"
    assert granted == [
        Granted("pass", "CI", 2),
        Granted("pass", "LD_LIBRARY_PATH", 1, warning="programs that find it run what it names"),
        Granted("pass", "MY_KEY_ID", 1, warning="its name says that it is a secret, or runs code"),
        Granted("set", "TMPDIR", 1, "/tmp"),
        Granted("scrub.remove", "*_KEY_*", 1, warning=why),
        Granted("scrub.remove", "LD_*", 1, warning=why),
    ]
    assert unwritable == ["A-B"]
    assert unknown == ["LOST", "X_PASSWORD"], "a password of a policy is not copied into another"
