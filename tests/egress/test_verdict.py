"""How a decision is said."""

from __future__ import annotations

import json

from capsule.egress.verdict import Verdict, answer, place

RULE = {"id": "no-gists", "file": "rules.yaml", "line": 4, "owner": "user", "priority": 100}


def test_an_entry_has_no_empty_fields() -> None:
    assert Verdict("allow", "grant", "").entry() == {"action": "allow", "by": "grant"}
    full = Verdict("block", "rule", "gists are public", rule=RULE, missing=("http.body",)).entry()
    assert full == {
        "action": "block", "by": "rule", "rule": RULE, "reason": "gists are public", "missing": ["http.body"],
    }  # fmt: skip


def test_a_refusal_says_what_where_and_what_would_allow_it() -> None:
    verdict = Verdict("block", "rule", "gists are public", rule=RULE, allow="remove the rule")
    text, media = answer(verdict, method="POST", url="https://a.example/gists", json=False)
    assert media.startswith("text/plain")
    assert text.decode() == (
        "capsule blocked POST https://a.example/gists\nby rule: gists are public\n"
        "rule no-gists (rules.yaml:4)\nto allow it: remove the rule\n"
    )
    data, media = answer(verdict, method="POST", url="https://a.example/gists", json=True)
    assert media == "application/json"
    assert json.loads(data) == {
        "error": "blocked by capsule", "request": "POST https://a.example/gists", "by": "rule",
        "reason": "gists are public", "rule": "no-gists", "place": "rules.yaml:4", "allow": "remove the rule",
    }  # fmt: skip
    assert not verdict.allowed


def test_a_place_without_a_line() -> None:
    assert place({"file": "capsule.yaml"}) == "capsule.yaml"
    assert place({"id": "x"}) == place(None) == ""
