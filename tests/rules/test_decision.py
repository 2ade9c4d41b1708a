"""A decision as the log has it."""

from __future__ import annotations

from capsule.rules.decision import UNDECIDED, Decision, RuleRef
from capsule.rules.rewrite import Edit

REF = RuleRef("a", "rules.yaml", 3, "user", 10)


def test_the_record_names_the_rule_and_what_was_missing() -> None:
    found = Decision("block", REF, "because", ("http.sni",)).record()
    assert found == {
        "action": "block",
        "by": "rule",
        "rule": {"id": "a", "file": "rules.yaml", "line": 3, "owner": "user", "priority": 10},
        "reason": "because",
        "missing": ["http.sni"],
    }
    assert str(REF) == "a (rules.yaml:3)"


def test_allowed_with_edits_is_a_rewrite_and_absent_is_absent() -> None:
    assert Decision("allow", edits=(Edit("remove_header", "x"),)).record() == {
        "action": "rewrite",
        "by": "rule",
    }
    assert UNDECIDED.record() == {"action": "undecided", "by": "rule"}
