"""The list: ids are unique, every attack of the project's list that a Linux host can express is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule.attack.corpus import CASES, UnknownCaseError, chosen

# Numbers of the list in docs/concepts/attacks.md that a command under `capsule run` can try. The others are about
# parts tested where they live: the SDK (42, 43, 66), policies' text (15), Seatbelt (58, 59), the verifier (69), egress.
NUMBERS = {
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
    10,
    11,
    14,
    16,
    18,
    19,
    20,
    22,
    23,
    24,
    25,
    26,
    28,
    29,
    30,
    31,
    32,
    34,
    35,
    36,
}
NUMBERS |= {37, 38, 39, 40, 41, 44, 45, 47, 49, 50, 51, 52, 54, 55, 56, 60, 61, 62, 64, 65, 67}


def test_ids_are_unique() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 110


def test_every_number_is_tried() -> None:
    assert {case.number for case in CASES} - {0} == NUMBERS


def test_choosing() -> None:
    assert chosen([]) == list(CASES)
    assert {case.family for case in chosen(["net"])} == {"net"}
    assert [case.id for case in chosen(["net.dns"])] == ["net.dns"]
    assert all(case.id.startswith("fs.read-") for case in chosen(["fs.read-*"]))
    with pytest.raises(UnknownCaseError, match="families are fs"):
        chosen(["fs", "nothing"])


def test_the_page_lists_every_attack() -> None:
    page = (Path(__file__).parents[2] / "docs/concepts/attacks.md").read_text(encoding="utf-8")
    missing = [case.id for case in CASES if f"| `{case.id}` | {case.number} | {case.title} |" not in page]
    assert not missing
