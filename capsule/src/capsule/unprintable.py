r"""How a character that could drive a terminal, or be taken for another, is written for a person.

A byte that is no text (PEP 383) as `\xff`, a character below U+0100 as `\x1b`, any other as `\u{202e}`: each is read in
one way. Refuses nothing.

    written("\x1b")                          # a backslash, x1b
    made_visible("a\u202eb", but="\n")        # a, a backslash, u{202e}, b
"""

from __future__ import annotations


def written(char: str) -> str:
    """One character, escaped."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def made_visible(text: str, *, but: str = "") -> str:
    """The text with what cannot be printed escaped.

    Args:
        text: anything.
        but: characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in but else written(char) for char in text)
