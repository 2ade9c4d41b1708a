"""What a person is shown of characters that cannot be printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.unprintable import made_visible, written


@pytest.mark.parametrize(
    ("char", "shown"),
    [("\x1b", r"\x1b"), ("\x9b", r"\x9b"), ("\udcff", r"\xff"), ("\u202e", r"\u{202e}"), ("\U000e0001", r"\u{e0001}")],
)  # fmt: skip
def test_each_reads_in_one_way(char: str, shown: str) -> None:
    assert written(char) == shown
    assert made_visible(f"a{char}2") == f"a{shown}2"


@given(st.text(st.characters(codec=None)))
def test_nothing_that_drives_a_terminal_is_left(text: str) -> None:
    assert made_visible(text).isprintable()
    assert made_visible(text, but="\n").replace("\n", "").isprintable()
    if text.isprintable():
        assert made_visible(text) == text
