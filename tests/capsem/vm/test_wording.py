from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from capsem.processes.monitor.deciding import Rules
from capsem.vm.spec import RuleText
from capsem.vm.wording import rule_for

ODD = 'it\'s "quoted" \\ ${x} #: {a: b} \t\n\x1b[0m\u00e9\u2028\U0001f600'


def now() -> str:
    return "2026-01-01T00:00:00Z"


def with_rule(*lines: str) -> Rules:
    text = "version: 1\nrules:\n  - {id: nothing, on: process, when: 'false', action: allow}\n"
    return Rules.of((RuleText("rules.yaml", text + "".join(f"  {line}\n" for line in lines)),), now)


@pytest.mark.needs("egress")
@pytest.mark.parametrize(
    "argv",
    [["ls"], ["git", "push", "origin"], ["/bin/sh", "-c", ODD], ["it's"], [ODD, ""], ["\u65e5", "--x=''"]],
)
def test_the_line_allows_the_command_that_was_refused_and_no_other(argv: list[str]) -> None:
    refused = with_rule().process(argv)
    assert not refused.allowed
    line = "- {id: " + refused.step.rpartition("- {id: ")[2]
    assert line.isascii()
    assert line.isprintable()
    rules = with_rule(line)
    assert rules.process(argv).allowed
    for other in ([*argv, "more"], argv[:-1] or ["x"], [*argv[:-1], argv[-1] + "x"]):
        assert not rules.process(other).allowed, other
    assert not rules.file("read", argv[0]).allowed


@pytest.mark.needs("egress")
@pytest.mark.parametrize("path", ["/root/x", f"/root/{ODD}", "/"])
def test_the_line_allows_the_file_that_was_refused_and_no_other(path: str) -> None:
    refused = with_rule().file("write", path)
    rules = with_rule("- {id: " + refused.step.rpartition("- {id: ")[2])
    assert rules.file("write", path).allowed
    assert not rules.file("read", path).allowed
    assert not rules.file("write", path + "x").allowed
    assert not rules.process([path]).allowed


@pytest.mark.needs("egress")
def test_two_of_one_program_have_names_of_their_own_and_a_long_one_is_let_be_by_name() -> None:
    lines = [
        "- {id: " + with_rule().process(argv).step.rpartition("- {id: ")[2] for argv in (["a"], ["a", "b"])
    ]
    rules = with_rule(*lines)
    assert rules.process(["a"]).allowed
    assert rules.process(["a", "b"]).allowed
    long = ["/bin/sh", "-c", "x" * 5000]
    subject = {"argv": long, "name": PurePosixPath(long[0]).name}
    assert 'process.name == "sh"' in rule_for("process", subject)
    assert with_rule(rule_for("process", subject)).process(long).allowed
