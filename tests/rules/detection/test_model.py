"""Several files of rules as one."""

from __future__ import annotations

import pytest

from capsule.rules.detection.model import About, Detection, SigmaFile, joined, refused
from capsule.rules.rule import RuleError


def one(name: str, file: str) -> SigmaFile:
    return SigmaFile((Detection(About(name, name, "low", (), file, 3), {}, {}),))


def test_files_are_joined_in_their_order() -> None:
    assert [rule.about.id for rule in joined([one("b", "x.yml"), one("a", "y.yml")]).detections] == ["b", "a"]


def test_two_rules_of_one_id_are_refused() -> None:
    with pytest.raises(RuleError, match=r"y\.yml:3:1: the id a is taken; x\.yml:3 has it"):
        joined([one("a", "x.yml"), one("a", "y.yml")])


def test_an_error_has_its_place() -> None:
    assert str(refused("x.yml", 4, "what", "do this")) == "x.yml:4:1: what; do this"
