"""The pack `agents`: every rule fires for what it is about, and is silent for what looks like it."""

from __future__ import annotations

from typing import Any

import pytest

from capsule.rules.detection.detector import Detector
from capsule.rules.detection.examples import FIRES, SECRET, SILENT
from capsule.rules.detection.model import About, SigmaFile
from capsule.rules.detection.packs import FILES, NAMES, load_pack
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.event import problems_of
from tests.rules.detection.events import http


def pack() -> list[SigmaFile]:
    return [parse_sigma(text, name) for name, text in load_pack("agents") or ()]


PACK = pack()


def test_a_foreign_credential_is_found_too() -> None:
    sent = http("GET", "https://evil.example/", decision={**SECRET, "reason": "foreign credential: of x"})
    assert found_by([sent]) == ["agents-secret-elsewhere"]


def found_by(events: list[dict[str, Any]]) -> list[str]:
    detector = Detector(PACK)
    found = [finding.rule.id for one in events for finding in detector.observe(one)]
    assert detector.failed == 0
    return found


def firing_rules() -> list[About]:
    """What makes findings: correlations, and detections that do not only feed them."""
    alone = [one.about for rules in PACK for one in rules.detections if one.alone]
    return alone + [one.about for rules in PACK for one in rules.correlations]


def test_every_rule_has_both_tests() -> None:
    firing = {about.id for about in firing_rules()}
    assert set(FIRES) == set(SILENT) == firing


@pytest.mark.parametrize("rule", sorted(FIRES))
def test_it_fires(rule: str) -> None:
    assert found_by(FIRES[rule]).count(rule) == 1


@pytest.mark.parametrize("rule", sorted(SILENT))
def test_it_is_silent(rule: str) -> None:
    assert rule not in found_by(SILENT[rule])


def test_the_events_of_these_tests_are_events() -> None:
    for events in (*FIRES.values(), *SILENT.values()):
        for one in events:
            assert problems_of(one) == []


def test_rules_say_what_they_are_about_and_have_a_level() -> None:
    for about in firing_rules():
        assert about.title
        assert about.description
        assert about.file.startswith("pack:agents/")


def test_every_file_of_the_folder_is_loaded() -> None:
    from pathlib import Path

    import capsule.rules

    folder = Path(capsule.rules.__file__ or "").parent / "packs"
    for name in NAMES:
        assert sorted(path.stem for path in (folder / name).iterdir()) == sorted(FILES[name])
    assert load_pack("nope") is None
