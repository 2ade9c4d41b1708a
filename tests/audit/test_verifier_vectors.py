"""The vectors: what the forge makes is what is committed, and the Python verifier says of each what it must."""

from __future__ import annotations

import json
from typing import Any

import pytest

from capsule.audit import verifier
from capsule.audit.checkpoint import parse_note, parse_vkey
from tests.audit import forge

EXPECTED: list[dict[str, Any]] = json.loads((forge.VECTORS / "expected.json").read_text())


def outcome(case: dict[str, Any], size: int) -> verifier.Report:
    data = (forge.VECTORS / f"{case['name']}.log").read_bytes()
    note = parse_note(case["since"]) if case["since"] else None
    heads = [verifier.Head(note.size, note.root, note.chain)] if note is not None else []
    key = parse_vkey(case["key"]) if case["key"] else None
    return verifier.verify((data[at : at + size] for at in range(0, len(data), size)), key=key, heads=heads)


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["name"])
@pytest.mark.parametrize("size", [1 << 20, 97])
def test_outcome(case: dict[str, Any], size: int) -> None:
    report = outcome(case, size)
    assert str(report.outcome) == case["outcome"], report.why
    assert case["block"] in (None, report.block)


def test_the_committed_vectors_are_those_of_the_forge() -> None:
    assert {case.name: case.data for case in forge.cases()} == {
        path.stem: path.read_bytes() for path in forge.VECTORS.glob("*.log")
    }


def test_every_outcome_has_a_vector() -> None:
    assert {case["outcome"] for case in EXPECTED} == {str(outcome) for outcome in verifier.Outcome}
