from __future__ import annotations

import pytest

from capsule.errors import PolicyError
from capsule.policy.document import Scalar
from capsule.policy.reader import MAX_PROBLEMS, NodeReader


def plain(text: str) -> Scalar:
    return Scalar(text, False, 1, 1)


@pytest.mark.parametrize(
    "text",
    ["yes", "No", "TRUE", "off", "y", "null", "~", "010", "0o17", "0x1F", "1_000", "1.5", "1e3", "-3", "+1", ".5", ".inf", "-.INF", ".NaN", "12:30", "2001-01-01"],  # noqa: E501
)  # fmt: skip
def test_what_some_reader_takes_for_no_text_needs_quotes(text: str) -> None:
    reader = NodeReader("p")
    if text == "2001-01-01":
        # Only a date: no reader of 1.2's core schema makes one, and no field takes one.
        assert reader.text(plain(text), "x", "text") == text
        return
    assert reader.text(plain(text), "x", "text") is None
    assert reader.text(Scalar(text, True, 1, 1), "x", "text") == text
    with pytest.raises(PolicyError, match="in quotes"):
        reader.finish()


@pytest.mark.parametrize("text", ["none", "nope", "yesterday", "1a", "a1", "on_top", "e3", "x.y", "/", "..."])
def test_other_words_need_none(text: str) -> None:
    reader = NodeReader("p")
    assert reader.text(plain(text), "x", "text") == text
    reader.finish()


def test_an_empty_quoted_text_is_text() -> None:
    assert NodeReader("p").text(Scalar("", True, 1, 1), "x", "text") == ""


def test_integers() -> None:
    reader = NodeReader("p")
    assert [reader.integer(plain(text), "x", 0, 100) for text in ("0", "42", "0x10")] == [0, 42, 16]
    assert [reader.integer(plain(text), "x", 0, 100) for text in ("", "00", "101", "-1", "1.0")] == [None] * 5
    assert len(reader.problems) == 5


def test_problems_are_capped() -> None:
    reader = NodeReader("p")
    for _ in range(MAX_PROBLEMS + 5):
        reader.refuse(plain("x"), "no")
    assert len(reader.problems) == MAX_PROBLEMS
