"""The examples that come with a pack: run as a user runs them, and seen to fail."""

from __future__ import annotations

from typing import Any

import pytest

from capsule.rules.detection.detector import Detector
from capsule.rules.detection.examples import FIRES, SILENT, check_pack, found_by
from capsule.rules.detection.packs import load_pack
from capsule.rules.detection.sigma import parse_sigma

FILES = [parse_sigma(text, name) for name, text in load_pack("agents") or ()]


def test_every_example_comes_out_as_written() -> None:
    results = check_pack("agents", FILES)
    assert [str(result) for result in results if not result.passed] == []
    assert len(results) == len(FIRES) + len(SILENT)
    assert check_pack("none", FILES) == []


def test_a_rule_that_is_gone_and_one_that_finds_too_much_are_named() -> None:
    without = [
        one for one in FILES if all(rule.about.id != "agents-reverse-shell" for rule in one.detections)
    ]
    failed = [str(result) for result in check_pack("agents", without) if not result.passed]
    assert failed == ["pack:agents: rule agents-reverse-shell: fires: found 0 times"]
    wide = """
title: wide
id: agents-reverse-shell
logsource: {category: process_creation, product: linux}
detection: {any: {Image|contains: /}, condition: any}
level: low
"""
    failed = [
        str(result)
        for result in check_pack("agents", [*without, parse_sigma(wide, "wide.yml")])
        if not result.passed
    ]
    assert failed == ["pack:agents: rule agents-reverse-shell: silent: found 2 times"]
    assert found_by(Detector([parse_sigma(wide, "wide.yml")]), FIRES["agents-mass-deletion"]) == []


def test_rules_are_compiled_once_and_one_example_says_nothing_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    original = Detector.__init__

    def counted(self: Detector, *arguments: Any) -> None:
        made.append(self)
        original(self, *arguments)

    monkeypatch.setattr(Detector, "__init__", counted)
    assert all(result.passed for result in check_pack("agents", FILES))
    assert len(made) == 1
    detector = Detector(FILES)
    events = FIRES["agents-many-refusals"]
    half = len(events) // 2
    assert found_by(detector, events[:half]) == found_by(detector, events[half:]) == []
    assert found_by(detector, events) == ["agents-many-refusals"]
    assert found_by(detector, events) == ["agents-many-refusals"]
