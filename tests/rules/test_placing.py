"""Places of characters inside YAML values, whatever the quoting."""

from __future__ import annotations

import pytest

from capsule.policy.document import Mapping, Scalar, read_document
from capsule.rules.placing import line_starts, place, quoted_line


def scalar(text: str) -> Scalar:
    root = read_document(text.encode(), "x.yaml")
    assert isinstance(root, Mapping)
    value = root.entries[0][1]
    assert isinstance(value, Scalar)
    return value


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("when: http.host == TARGET\n", "TARGET"),
        ("when: 'it''s and ''TARGET'''\n", "TARGET"),
        ('when: "a \\"b\\" \\u00e9 \\x41 TARGET"\n', "TARGET"),
        ('when: "first\n  second TARGET"\n', "TARGET"),
        ('when: "first \\\n    TARGET"\n', "TARGET"),
        ("when: first\n   second\n   TARGET here\n", "TARGET"),
        ("when: |\n  first é\n    TARGET\n", "TARGET"),
        ("when: |-\n  first\n\n  TARGET\n", "TARGET"),
        ("when: >\n  first\n  second\n\n  TARGET\n", "TARGET"),
        ("when: >-   \n    first TARGET\n", "TARGET"),
    ],
)
def test_the_character_is_found_where_it_stands(text: str, target: str) -> None:
    value = scalar(text)
    line, column = place(text, value, value.text.index(target))
    assert text.split("\n")[line - 1][column - 1 :].startswith(target)


def test_the_end_of_a_value() -> None:
    text = "when: http.host ==\n"
    value = scalar(text)
    assert place(text, value, len(value.text)) == (1, 19)


def test_a_value_that_does_not_fit_the_text_has_its_own_place() -> None:
    assert place("when: abc\n", Scalar("xyz", False, 1, 7), 2) == (1, 7)


def test_a_long_line_is_cut_around_the_caret() -> None:
    shown, caret = quoted_line("a" * 150 + "X" + "b" * 100, 1, 151).split("\n")
    assert shown[caret.index("^")] == "X"
    assert len(shown) <= 100
    assert line_starts("a\nb\n") == [0, 2, 4]
