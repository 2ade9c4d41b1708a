"""Which lines and branches of some source files were reached, told by the interpreter itself (PEP 669).

Each place is told once and then switched off, so that watching costs nothing where nothing is new.
Refuses Python before 3.12, which has no `sys.monitoring`, and a tool's place that somebody else holds.

    with Reached("capsule/policy/") as reached: parse(data, "x.yaml"); reached.places
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from types import CodeType
from typing import Any, Self

TOOL = 4  # 0 to 2 and 5 are spoken for: debugger, coverage, profiler, optimizer
_MONITORING: Any = getattr(sys, "monitoring", None)
AVAILABLE = _MONITORING is not None
WHY_NOT = "guided fuzzing needs sys.monitoring: Python 3.12 or later"


class Reached:
    """Collects places in files whose path contains one of `files`.

    Attributes:
        places: (path, line) and (path, line of the function, offset, destination).
        lines: how many of the places are lines.
    """

    def __init__(self, *files: str) -> None:
        if not AVAILABLE:
            raise RuntimeError(f"{WHY_NOT}; this is {sys.version.split()[0]}: run it with a later one")
        self.files = files
        self.places: set[Hashable] = set()
        self.lines = 0
        self._ways: dict[tuple[CodeType, int], set[int]] = {}

    def __enter__(self) -> Self:
        events = _MONITORING.events
        _MONITORING.use_tool_id(TOOL, "capsule-fuzz")
        self._branches = (
            (events.BRANCH_LEFT, events.BRANCH_RIGHT) if hasattr(events, "BRANCH_LEFT") else (events.BRANCH,)
        )
        _MONITORING.register_callback(TOOL, events.LINE, self._line)
        wanted = events.LINE
        for event in self._branches:
            _MONITORING.register_callback(TOOL, event, self._branch)
            wanted |= event
        _MONITORING.restart_events()
        _MONITORING.set_events(TOOL, wanted)
        return self

    def __exit__(self, *_: object) -> None:
        _MONITORING.set_events(TOOL, 0)
        for event in (_MONITORING.events.LINE, *self._branches):
            _MONITORING.register_callback(TOOL, event, None)
        _MONITORING.free_tool_id(TOOL)

    def _ours(self, code: CodeType) -> bool:
        return any(part in code.co_filename for part in self.files)

    def _line(self, code: CodeType, line: int) -> object:
        if self._ours(code) and (code.co_filename, line) not in self.places:
            self.places.add((code.co_filename, line))
            self.lines += 1
        return _MONITORING.DISABLE

    def _branch(self, code: CodeType, offset: int, destination: int) -> object:
        if not self._ours(code):
            return _MONITORING.DISABLE
        self.places.add((code.co_filename, code.co_firstlineno, offset, destination))
        ways = self._ways.setdefault((code, offset), set())
        ways.add(destination)
        # Before 3.14 one switch is for both ways: it stays on until both were taken.
        return _MONITORING.DISABLE if len(ways) > 1 or len(self._branches) > 1 else None
