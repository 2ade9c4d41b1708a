from __future__ import annotations

import pytest

from capsem.processes.monitor.deciding import Rules
from capsem.vm.spec import RuleText
from capsule.errors import CapsuleError
from tests.capsem.processes.monitor.test_acts import RULES


def now() -> str:
    return "2026-01-01T00:00:00Z"


def test_without_rules_nothing_is_refused_and_everything_is_an_event() -> None:
    rules = Rules.of((), now)
    verdict = rules.process(["/usr/bin/git", "push"])
    assert verdict.allowed
    assert verdict.entry["process"] == {
        "path": "/usr/bin/git", "name": "git", "argv": ["/usr/bin/git", "push"], "command": "/usr/bin/git push",
    }  # fmt: skip
    assert rules.file("write", "/a/b.tar.gz").entry["file"]["ext"] == "gz"
    assert rules.process(["x"]).event["event"]["id"] != rules.process(["x"]).event["event"]["id"]


@pytest.mark.needs("egress")
def test_with_rules_what_none_allows_is_refused() -> None:
    rules = Rules.of((RuleText("rules.yaml", RULES),), now)
    assert rules.process(["sh", "-c", "ls"]).allowed
    assert rules.process(["sh", "push"]).reason == "nothing leaves this machine"
    assert rules.process(["ls"]).decision == {
        "action": "block",
        "by": "default",
        "reason": "no rule allows it",
    }
    assert not rules.file("read", "/x").allowed


@pytest.mark.needs("egress")
def test_a_path_that_may_not_be_written_is_no_new_name_either() -> None:
    text = """
version: 1
rules:
  - {id: kept, on: file, when: 'file.operation == "write" && file.path == "/etc/kept"', action: block, priority: 10}
  - {id: rest, on: file, when: "true", action: allow}
"""
    rules = Rules.of((RuleText("rules.yaml", text),), now)
    assert not rules.file("write", "/etc/kept").allowed
    assert [one.allowed for one in rules.rename("/tmp/x", "/etc/kept")] == [True, True, False, True]
    assert all(one.allowed for one in rules.rename("/tmp/x", "/etc/other"))


@pytest.mark.needs("egress")
def test_rules_that_do_not_compile_are_refused_by_their_place() -> None:
    with pytest.raises(CapsuleError, match=r"rules\.yaml:"):
        Rules.of((RuleText("rules.yaml", RULES.replace("process.name", "process.nmae")),), now)
