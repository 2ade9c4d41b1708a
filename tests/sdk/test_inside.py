"""Which tools may run as they are inside a sandbox."""

from __future__ import annotations

from capsule.sdk.inside import Place


def test_only_tools_of_the_same_policy_and_overrides_are_served() -> None:
    plain = Place(None, None, frozenset({"fetch"}))
    assert plain.serves(None, "count")
    assert not plain.serves(None, "fetch")
    assert not plain.serves("/other.yaml", "count")
    of_fetch = Place(None, "fetch", frozenset({"fetch"}))
    assert of_fetch.serves(None, "fetch")
    assert not of_fetch.serves(None, "count")
