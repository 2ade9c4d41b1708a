"""What the value of a setting may be: a number, a size, days or a text; each checks, reads and describes it. Pure.

Refuses a value of another kind or out of its bounds, saying what would be one.

    Number(1, 8).check(9)                    # UsageError: 9 is no number from 1 to 8
    Days().read("30")                        # 30
    Size(96, 65536).schema()                 # for an editor: {'type': 'string', 'pattern': …}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

from capsem.errors import UsageError
from capsem.vm.quantities import mebibytes

Value = str | int
NONE = "none"
_DIGITS = re.compile(r"[0-9]{1,9}")
_LONGEST = 4096


class Kind(Protocol):
    """What a value may be."""

    def check(self, value: object) -> None:
        """Raises UsageError for a value that is none."""

    def read(self, text: str) -> Value:
        """What a person wrote on the command line, before it is checked."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number, both bounds included."""

    least: int
    most: int

    def check(self, value: object) -> None:
        """As in `Kind`."""
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            raise UsageError(
                f"{value!r} is no number from {self.least} to {self.most}", next_step="write one"
            )

    def read(self, text: str) -> Value:
        """As in `Kind`."""
        return int(text) if _DIGITS.fullmatch(text) else text

    def schema(self) -> dict[str, Any]:
        """As in `Kind`."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text."""

    def check(self, value: object) -> None:
        """As in `Kind`."""
        if not isinstance(value, str) or not value or not value.isprintable() or len(value) > _LONGEST:
            raise UsageError(f"{str(value)[:80]!r} is no text of one line", next_step="write one in quotes")

    def read(self, text: str) -> Value:
        """As in `Kind`."""
        return text

    def schema(self) -> dict[str, Any]:
        """As in `Kind`."""
        return {"type": "string", "minLength": 1, "maxLength": _LONGEST}


@dataclass(frozen=True, slots=True)
class Size:
    """A size like `512M` or `2G`, MiB in its bounds; where `none` is set, that too."""

    least: int
    most: int
    none: bool = False

    def check(self, value: object) -> None:
        """As in `Kind`."""
        Text().check(value)
        if not (self.none and value == NONE):
            mebibytes(str(value), what="the size", least=self.least, most=self.most)

    def read(self, text: str) -> Value:
        """As in `Kind`."""
        return text

    def schema(self) -> dict[str, Any]:
        """As in `Kind`."""
        size = {"type": "string", "pattern": "^[1-9][0-9]{0,6}([MmGg]([Ii]?[Bb])?)?$"}
        return {"anyOf": [size, {"const": NONE}]} if self.none else size


@dataclass(frozen=True, slots=True)
class Days:
    """A number of days, or `none`."""

    most: int = 36500

    def check(self, value: object) -> None:
        """As in `Kind`."""
        if value == NONE:
            return
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= self.most:
            raise UsageError(
                f"{value!r} is no number of days from 1 to {self.most}", next_step='write one, or "none"'
            )

    def read(self, text: str) -> Value:
        """As in `Kind`."""
        return int(text) if _DIGITS.fullmatch(text) else text

    def schema(self) -> dict[str, Any]:
        """As in `Kind`."""
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": self.most}, {"const": NONE}]}
