from __future__ import annotations

from capsule.sandbox.changes import Change, Risk


def test_a_change_is_ranked_by_what_it_gives_away() -> None:
    changes = [Change(risk, risk.name) for risk in Risk]
    assert [change.what for change in sorted(changes, key=lambda change: -change.risk)] == [
        "CRITICAL", "HIGH", "MEDIUM", "LOW", "NARROWER",
    ]  # fmt: skip
    assert changes[0].origin is None
