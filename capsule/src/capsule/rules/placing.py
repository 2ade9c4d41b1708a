r"""Where a character of a YAML value stands in its file: through quotes, escapes, folded and literal blocks.

A condition is compiled from the value, and its errors belong into the file. The value and the file's text are laid
side by side; what the value does not have (indentation, line breaks that fold, escapes) is stepped over. It refuses to
guess: when the two do not fit together, the place is the value's own.

    place(text, scalar, 14)      # (line, column) of the fifteenth character of the value, from 1
"""

from __future__ import annotations

from capsule.policy.document import Scalar


def place(text: str, scalar: Scalar, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of the character at `offset` of the value.

    Args:
        text: the whole file, as it was read.
        scalar: the value.
        offset: of a character in `scalar.text`; its length means just behind the last one.
    """
    starts = line_starts(text)
    at = starts[scalar.line - 1] + scalar.column - 1
    style = text[at : at + 1] if scalar.quoted else ""
    if style in {"|", ">"}:
        at = text.find("\n", at) + 1
    elif style in {"'", '"'}:
        at += 1
    for index, char in enumerate(scalar.text):
        at = _meet(text, at, char, style)
        if at < 0:
            return scalar.line, scalar.column
        if index == offset:
            break
        at += _width(text, at, char, style)
    line = next(number for number in range(len(starts), 0, -1) if starts[number - 1] <= at)
    return line, at - starts[line - 1] + 1


def line_starts(text: str) -> list[int]:
    """The offset of the first character of each line."""
    starts = [0]
    while (found := text.find("\n", starts[-1])) >= 0:
        starts.append(found + 1)
    return starts


def quoted_line(text: str, line: int, column: int) -> str:
    """The line of the file and a caret below the column, as error messages show it."""
    lines = text.splitlines()
    shown = lines[line - 1].rstrip() if line <= len(lines) else ""
    # A long line is cut, so that the caret stays in sight.
    start = max(0, column - 1 - 60)
    window = shown[start : start + 100]
    return f"{window}\n{' ' * (column - 1 - start)}^"


def _meet(text: str, at: int, char: str, style: str) -> int:
    """The place in the file, from `at` on, that stands for the character; -1 when there is none."""
    while at < len(text):
        if text[at] == char or (style == '"' and text[at] == "\\" and text[at + 1 : at + 2] != "\n"):
            return at
        if char in " \n" and text[at] in " \n":
            return at
        if text[at] in " \n" or (style == '"' and text[at] == "\\"):
            at += 1  # indentation, or a line break that folds away
            continue
        return -1
    return -1


def _width(text: str, at: int, char: str, style: str) -> int:
    """How many characters of the file stand for this one of the value."""
    if style == '"' and text[at] == "\\":
        return {"x": 4, "u": 6, "U": 10}.get(text[at + 1 : at + 2], 2)
    if style == "'" and char == "'":
        return 2
    if style == ">" and char in " \n" and text[at] == "\n":
        return 1
    if char == " " and text[at] == "\n":
        return len(text) - at - len(text[at:].lstrip(" \n"))
    return 1
