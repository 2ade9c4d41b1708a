from __future__ import annotations

import json

import pytest

from capsem.cli import terminal
from capsem.errors import MachineError
from capsule.errors import PolicyError, Problem

HOSTILE = "a\x1b[2Jb\x9b"


def test_nothing_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(HOSTILE)
    terminal.say_json({"x": HOSTILE})
    terminal.say_table(["NAME"], [[HOSTILE + "\nmore"]])
    terminal.complain([HOSTILE])
    shown = capsys.readouterr()
    assert not {"\x1b", "\x9b"} & set(shown.out + shown.err)
    assert json.loads(shown.out.splitlines()[1]) == {"x": HOSTILE}


def test_a_name_writes_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x\ncapsem: y"
    terminal.say(name)
    terminal.complain([name])
    terminal.fault(PolicyError([Problem(name, 1, 1, name, next_step=f"see {name}")]))
    shown = capsys.readouterr()
    assert shown.out == "x\\ncapsem: y\n"
    assert all(r"x\ncapsem: y" in line or "correct this" in line for line in shown.err.splitlines())


def test_what_a_program_said_stands_below_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.fault(MachineError("tar ended with 1\ncapsem: all is well\x1b", next_step="look"))
    assert capsys.readouterr().err.splitlines() == [
        "capsem: tar ended with 1", r"  capsem: all is well\x1b", "capsem: look",
    ]  # fmt: skip


def test_columns_are_as_wide_as_they_need_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say_table(["ID", "STATE"], [["m-1", "running"], ["machine-2", ""]])
    assert capsys.readouterr().out == "ID         STATE\nm-1        running\nmachine-2\n"


def test_every_problem_of_a_policy_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.fault(PolicyError([Problem("f", 1, 1, "one"), Problem("f", 2, 1, "two")]))
    assert capsys.readouterr().err.splitlines() == [
        "capsem: f:1:1: one", "capsem: f:2:1: two", "capsem: correct these 2 places and run it again",
    ]  # fmt: skip
