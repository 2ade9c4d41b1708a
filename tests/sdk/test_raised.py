"""Exceptions cross as descriptions: listed ones come back as themselves, others as ToolError."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule.errors import RemoteTraceback, ToolError, WorkerError
from capsule.sdk.raised import MAX_TEXT, describe, rebuild
from capsule.sdk.values import encode


def thrown(error: BaseException) -> Exception:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return rebuild(describe(caught))


class OddError(Exception):
    pass


class WordsError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("k"), ZeroDivisionError(), IndexError("a", 1), RuntimeError({"a": (1, b"x")})],
    ids=repr,
)
def test_a_listed_exception_comes_back_as_itself(error: Exception) -> None:
    back = thrown(error)
    assert type(back) is type(error)
    assert back.args == error.args
    assert isinstance(back.__cause__, RemoteTraceback)
    assert "test_raised.py" in str(back.__cause__)


def test_an_os_error_keeps_its_number_and_its_file() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("/nonexistent/file").read_text()
    back = thrown(caught.value)
    assert isinstance(back, FileNotFoundError)
    assert (back.errno, back.filename) == (2, "/nonexistent/file")
    assert isinstance(thrown(OSError(13, "Permission denied")), PermissionError)


def test_others_come_back_as_tool_errors() -> None:
    back = thrown(OddError("strange"))
    assert isinstance(back, ToolError)
    assert str(back).endswith("OddError: strange")
    assert "OddError" in back.remote


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), GeneratorExit()])
def test_what_steers_an_interpreter_does_not(error: BaseException) -> None:
    back = thrown(error)
    assert type(back) is ToolError
    assert back.type_name == type(error).__name__


def test_arguments_that_cannot_cross_become_the_message() -> None:
    assert thrown(ValueError({1})).args == ("{1}",)
    assert "RuntimeError" in str(thrown(WordsError()))


def test_texts_are_bounded_and_carry_no_terminal_controls() -> None:
    back = thrown(OddError("\x1b[2J" + "x" * 10 * MAX_TEXT))
    assert len(str(back)) < 2 * MAX_TEXT
    assert "\x1b" not in str(back)
    assert "\\x1b[2J" in str(back)


def test_notes_cross() -> None:
    error = ValueError("x")
    error.add_note("look there")
    assert thrown(error).__notes__ == ["look there"]


@pytest.mark.parametrize(
    "untrusted",
    [
        b"garbage",
        encode([]),
        encode({}),
        encode({"type": "eval", "module": "builtins", "arguments": ["1+1"], "message": "m"}),
        encode({"type": "system", "module": "os", "arguments": ["true"], "message": "m"}),
        encode({"type": "SystemExit", "module": "builtins", "arguments": [0], "message": "m"}),
        encode({"type": 7, "module": None, "arguments": {}, "message": [], "notes": 3, "traceback": b""}),
        encode(
            {"type": "OSError", "module": "builtins", "arguments": [[], {}, 3, 4, 5, 6, 7], "message": "m"}
        ),
        encode({"type": "ImportError", "module": "builtins", "arguments": None, "message": "m"}),
    ],
    ids=lambda words: repr(words[:40]),
)
def test_a_hostile_description_is_an_ordinary_exception(untrusted: bytes) -> None:
    back = rebuild(untrusted)
    assert isinstance(back, ToolError | WorkerError | OSError)
    str(back)
