"""The smallest rule that allows one act, as a line to paste: what is refused by default says what would let it be.

Pure. Refuses to allow more than that act: its whole command, or its operation on its path. A command too long for a
condition is let be by its program's name, and the line says no more than that.

    rule_for("process", {"argv": ["ls"], …})  # - {id: allow-ls-1a2b, on: process, when: 'process.argv == ["ls"]', …}
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

# A condition has at most 4 KiB, and a line is read by a person.
_LONGEST = 400
_NAME = 40


def rule_for(kind: str, subject: Mapping[str, Any]) -> str:
    """The rule, in one line of YAML.

    Args:
        kind: `process` or `file`.
        subject: of the event that was refused.
    """
    if kind == "process":
        when = f"process.argv == [{', '.join(_text(word) for word in subject['argv'])}]"
        if len(when) > _LONGEST:
            when = f"process.name == {_text(subject['name'])}"
    else:
        when = f"file.operation == {_text(subject['operation'])} && file.path == {_text(subject['path'])}"
    plain = re.sub(r"[^a-z0-9]+", "-", str(subject["name"]).lower()).strip("-")[:_NAME] or kind
    name = f"allow-{plain}-{zlib.crc32(when.encode()) & 0xFFFF:04x}"
    # In YAML's single quotes nothing but the quote itself means anything else.
    quoted = when.replace("'", "''")
    return f"- {{id: {name}, on: {kind}, when: '{quoted}', action: allow}}"


def _text(value: str) -> str:
    """A text as an expression has it; what a terminal or YAML could take for something else is spelled out."""
    return '"' + "".join(_letter(letter) for letter in value) + '"'


def _letter(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if " " <= letter <= "~":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 1 << 16 else f"\\U{ord(letter):08x}"
