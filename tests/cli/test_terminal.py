from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from capsule.cli import terminal
from capsule.errors import PlanError, PolicyError, Problem
from capsule.sandbox.access import Decision, Rule
from capsule.sandbox.changes import Change, Risk
from capsule.sandbox.plan import PlanOrigin


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("a\x1b[2Jb\tc")
    terminal.complain(["c\rd"])
    captured = capsys.readouterr()
    assert captured.out == "a\\x1b[2Jb\\tc\n"
    assert captured.err == "capsule: c\\x0dd\n"


def test_faults_say_the_place_the_cause_and_the_next_step(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    terminal.fault(PolicyError([Problem(f"{workspace}/capsule.yaml", 2, 3, "unknown key 'x'")]))
    terminal.fault(PlanError("too long", next_step="shorten it"))
    assert capsys.readouterr().err.splitlines() == [
        "capsule: capsule.yaml:2:3: unknown key 'x'",
        "capsule: correct this and run it again",
        "capsule: too long",
        "capsule: shorten it",
    ]


def test_a_name_writes_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x\ncapsule: y"
    terminal.say(name)
    terminal.complain([name])
    terminal.fault(PolicyError([Problem(name, 1, 1, name, next_step=f"see {name}")]))
    terminal.fault(PlanError(name, next_step=name))
    terminal.usage(click.ClickException(name))
    terminal.say_lines("a\nb\x1b\n")
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [r"x\ncapsule: y", "a", r"b\x1b"]
    assert all(r"x\ncapsule: y" in line or "correct this" in line for line in shown.err.splitlines())


def test_what_a_problem_quotes_stands_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.fault(PolicyError([Problem("f", 1, 1, "odd", next_step="correct it\n  | x\x1b\n  | ^")]))
    assert capsys.readouterr().err.splitlines()[:3] == [
        "capsule: f:1:1: odd; correct it",
        r"  | x\x1b",
        "  | ^",
    ]


def test_usage_points_at_help(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.usage(click.ClickException("no"))
    terminal.usage(click.UsageError("odd", click.Context(click.Command("x"), info_name="capsule x")))
    assert capsys.readouterr().err.splitlines() == [
        "capsule: no",
        "capsule: odd",
        "capsule: try 'capsule x --help'",
    ]


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say_json({"b": 1, "a": "é\n"})
    assert capsys.readouterr().out == '{"a":"é\\n","b":1}\n'


def test_problems_for_programs() -> None:
    value = terminal.problem_json(Problem("f", 1, 2, "w", "", None, "n"))
    assert value == {
        "file": "f",
        "line": 1,
        "column": 2,
        "what": "w",
        "expected": None,
        "nearest": None,
        "next_step": "n",
    }
    json.dumps(value)


def test_decisions(capsys: pytest.CaptureFixture[str]) -> None:
    rule = Rule('filesystem: deny: ["./x"]', PlanOrigin("/elsewhere/capsule.yaml", 4, 1))
    terminal.say_decision(Decision("denied", rule))
    terminal.say_decision(Decision("not_granted", None, "filesystem: read: [x]"))
    terminal.say_decision(Decision("granted", rule))
    assert capsys.readouterr().out.splitlines() == [
        '  by /elsewhere/capsule.yaml:4  filesystem: deny: ["./x"]',
        "  to allow: take that line out of the policy",
        "  to allow: filesystem: read: [x]",
        '  by /elsewhere/capsule.yaml:4  filesystem: deny: ["./x"]',
    ]
    assert terminal.decision_json(Decision("hidden"))["rule"] is None
    assert terminal.decision_json(Decision("denied", rule))["rule"]["line"] == 4


def test_changes(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say_change(Change(Risk.HIGH, "may write /x", PlanOrigin("p.yaml", 3, 1)))
    terminal.say_change(Change(Risk.LOW, "A is set"))
    assert capsys.readouterr().out.splitlines() == [
        "high      may write /x   (p.yaml:3)",
        "low       A is set",
    ]
    assert terminal.change_json(Change(Risk.LOW, "A"))["file"] is None


def test_json_cannot_drive_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": "\x1b[2J\x7f\x9b31m\u202e\U000e0001 é 日本"}
    terminal.say_json(value)
    line = capsys.readouterr().out
    assert line.rstrip("\n").isprintable()
    assert "é 日本" in line
    assert json.loads(line) == value
