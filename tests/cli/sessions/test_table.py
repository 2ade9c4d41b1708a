from __future__ import annotations

import io
import sys

import pytest

from capsule.cli.sessions.table import clip, one_line, painter, plain_letters, table, width


def test_a_table_fits() -> None:
    rows = [("r-1", 3, "a command that goes on and on"), ("r-2", None, "日本語の名前")]
    lines = list(table(("NAME", "N", "COMMAND"), rows, width=24, gives=2, right=(1,)))
    assert lines == ["NAME  N  COMMAND", "r-1   3  a command that…", "r-2   -  日本語の名前"]


def test_what_is_too_narrow_is_still_a_table() -> None:
    lines = list(table(("A", "B"), [("x" * 50, "y" * 50)], width=20, gives=1))
    assert len(lines[1]) <= 20


def test_text_is_harmless() -> None:
    assert one_line("a\x1b[2J\nb\x9b\u202e") == "a\\x1b[2J\\nb\\x9b\\u{202e}"
    assert clip("日本語", 5) == "日本…"
    assert clip("abc", 3) == "abc"
    assert clip("abc", 0) == ""


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        encoding = "ascii"

        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painter()("red", "x") == "x"
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert painter()("red", "x") == "\x1b[31mx\x1b[0m"
    assert painter(never=True)("red", "x") == "x"
    assert plain_letters()
    monkeypatch.setenv("NO_COLOR", "1")
    assert painter()("red", "x") == "x"


def test_the_terminals_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert width() == 120
    monkeypatch.setenv("COLUMNS", "9")
    assert width() == 40
