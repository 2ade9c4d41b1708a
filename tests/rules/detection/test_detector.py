"""Live detection: which rules are asked, what fails, what is hostile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.rules.detection.detector import Detector, time_us
from capsule.rules.detection.sigma import parse_sigma
from tests.rules.detection.events import http, process
from tests.rules.detection.test_packs import PACK

RULES = "---\n".join(
    f"title: {number}\nid: r{number}\nlogsource: {{product: linux, category: process_creation}}\n"
    f"detection:\n  a:\n    {question}\n  condition: a\n"
    for number, question in enumerate(
        [
            "Image|endswith: [/curl, /wget]",
            "CommandLine|contains: ' -x'",
            "CommandLine|contains: secret",
            "CommandLine|contains: zzz",
            "ParentImage|endswith: /bash",
        ]
    )
)


def ids(detector: Detector, event: dict[str, Any]) -> list[str]:
    return [finding.rule.id for finding in detector.observe(event)]


def test_the_rules_that_hold_fire() -> None:
    detector = Detector([parse_sigma(RULES, "x.yml")])
    assert len(detector) == 5
    assert detector.types == {"process"}
    assert ids(detector, process("curl", "-x")) == ["r0", "r1", "r4"]
    assert ids(detector, {**process("ls", "SECRET"), "program": {}}) == ["r2"]
    assert ids(detector, http("GET", "https://curl/")) == []


def test_an_event_without_a_type_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match=r"event\.type"):
        Detector([]).observe({"http": {}})


def test_without_a_time_an_event_is_with_the_one_before() -> None:
    detector = Detector(PACK)
    read: dict[str, Any] = {
        "event": {"type": "file", "time": "2026-01-01T00:00:00Z"},
        "file": {"operation": "read", "path": "/w/.netrc", "name": ".netrc"},
    }
    sent: dict[str, Any] = {"event": {"type": "http"}, "http": {"method": "POST", "path": "/x"}}
    detector.observe(read)
    assert "agents-secret-read-then-sent" in ids(detector, sent)
    assert detector.forgotten == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00", None),
        ("soon", None),
        (5, None),
    ],
)
def test_times(text: object, found: int | None) -> None:
    assert time_us(text) == found


HOSTILE = Detector(PACK)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=6)  # fmt: skip


@given(
    st.sampled_from(["process", "file", "http", "dns", "tcp"]),
    st.dictionaries(st.sampled_from(["path", "command", "argv", "name", "operation", "host", "url", "method", "body", "length", "entropy"]), VALUES),
    VALUES,
)  # fmt: skip
def test_whatever_an_event_holds_is_looked_at_without_failing(
    kind: str, fields: dict[str, Any], other: Any
) -> None:
    detector = Detector(PACK)
    detector.observe(
        {"event": {"type": kind, "time": other, "id": "e"}, kind: fields, "program": other, "decision": other}
    )
    assert detector.failed == 0
