"""Events for tests of detection, short to write: as the examples of a pack are written."""

from __future__ import annotations

from capsule.rules.detection.examples import dns, event, file, http, process

__all__ = ["dns", "event", "file", "http", "process"]
