"""A finding as the log has it."""

from __future__ import annotations

from capsule.rules.detection.finding import Finding
from capsule.rules.detection.model import About

ABOUT = About("x", "Title", "high", ("attack.t1041",), "x.yml", 1)


def test_the_record_leaves_out_what_is_absent() -> None:
    rule = {"id": "x", "title": "Title", "level": "high", "file": "x.yml", "line": 1}
    assert Finding(ABOUT, ("e1",)).record() == {"rule": {**rule, "tags": ["attack.t1041"]}, "events": ["e1"]}
    plain = Finding(About("x", "Title", "high", (), "x.yml", 1), ("e1", "e2"), 2, ("h",))
    assert plain.record() == {"rule": rule, "events": ["e1", "e2"], "count": 2, "group": ["h"]}
