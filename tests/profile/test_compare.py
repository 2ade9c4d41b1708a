"""A present policy beside an observation."""

import pytest

from capsule.profile.compare import Grant, Missing, missing_grants, prune_lines, unused_grants
from capsule.profile.observation import FileUse
from tests.profile.test_observation import observation

SEEN = observation(
    files=(FileUse("/w/a", read=2), FileUse("/w/out/b", write=1), FileUse("/w/bin/x", execute=3))
)


def test_grants_without_evidence_are_found() -> None:
    used = [
        Grant("read", "/w/a", "f", 1),
        Grant("write", "/w/out", "f", 2),
        Grant("execute", "/w/bin", "f", 3),
        Grant("read", "/w", "f", 4),
    ]
    unused = [
        Grant("write", "/w/a", "f", 5),
        Grant("read", "/w/other", "f", 6),
        Grant("execute", "/w/out", "f", 7),
        Grant("read", "/w/ou", "f", 8),
    ]
    assert unused_grants(SEEN, [*used, *unused]) == tuple(unused)


def test_uses_that_the_policy_refuses_come_most_frequent_first() -> None:
    missing = missing_grants(SEEN, lambda want, path: want == "write")
    assert missing == (Missing("execute", "/w/bin/x", 3), Missing("read", "/w/a", 2))


def test_pruning_takes_whole_items_only() -> None:
    text = "filesystem:\n  read:\n    - a   # why\n    - b\n"
    assert prune_lines(text, [3]) == "filesystem:\n  read:\n    - b\n"
    assert prune_lines(text + "  write: # out\n    - c\nname: x\n", [3, 4, 6]) == (
        "filesystem:\n  read: []\n  write: []# out\nname: x\n".replace("[]#", "[] #")
    )
    with pytest.raises(ValueError, match="line 2"):
        prune_lines(text, [2])
    with pytest.raises(ValueError, match="line 9"):
        prune_lines(text, [9])
