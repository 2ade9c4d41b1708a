from __future__ import annotations

import json
import os

from tests.cli.overlay.conftest import Capsule
from tests.overlay.conftest import Made


def test_a_unified_diff_that_cannot_drive_the_terminal(made: Made, capsule: Capsule) -> None:
    answer = capsule("diff")
    assert answer.returncode == 1, answer.stderr
    assert "-two\n+three\n" in answer.stdout
    assert "-1\n" in answer.stdout
    assert "binary or long file: 0 -> 2 bytes" in answer.stdout
    assert "-> /etc/passwd" in answer.stdout
    assert "points outside" in answer.stdout
    assert "\x1b" not in answer.stdout
    assert "n\\x0a\\x1b[2J" in answer.stdout
    assert "+\\x1b]0;owned\\x07" in answer.stdout


def test_raw_contents_when_asked_for_names_never(made: Made, capsule: Capsule) -> None:
    answer = capsule("diff", "--raw")
    assert "+\x1b]0;owned\x07" in answer.stdout
    assert "\x1b[2J" not in answer.stdout


def test_one_line_a_name_and_a_count(made: Made, capsule: Capsule) -> None:
    lines = capsule("diff", "--stat", "r-1").stdout.splitlines()
    assert lines[-1] == "r-1: 3 added, 1 changed, 1 removed"
    assert len(lines) == 6


def test_json_is_one_object_a_line(made: Made, capsule: Capsule) -> None:
    found = [json.loads(line) for line in capsule("diff", "--json").stdout.splitlines()]
    assert {change["path"]: change["action"] for change in found} == {
        "a.txt": "changed", "n\n\x1b[2J": "added", "binary": "added", "out": "added", "gone": "removed",
    }  # fmt: skip


def test_names_that_are_not_text(made: Made, capsule: Capsule) -> None:
    descriptor = os.open(os.fsencode(made.upper) + b"/\xff", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    assert "\\xff" in capsule("diff", "--stat").stdout
    assert capsule("diff", "--json").returncode == 1


def test_nothing_changed_and_no_overlay(made: Made, capsule: Capsule) -> None:
    assert capsule("diff", "--list").stdout == "r-1\n"
    assert capsule("diff", "r-2").returncode == 125
    for path in made.upper.iterdir():
        path.unlink()
    answer = capsule("diff")
    assert (answer.returncode, answer.stdout) == (0, "r-1: nothing changed\n")


def test_without_an_overlay_json_says_so(capsule: Capsule) -> None:
    answer = capsule("diff", "--json")
    assert answer.returncode != 0
    told = json.loads(answer.stdout)
    assert (told["ok"], told["error"]["message"]) == (False, "there is no overlay")
