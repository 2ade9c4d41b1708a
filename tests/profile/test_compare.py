"""A present policy beside an observation."""

from capsule.profile.compare import Grant, Missing, missing_grants, prune, unused_grants
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


POLICY = """\
version: 1   # kept
filesystem:
  read:
    - ./a   # why
    - {path: /w/b, reason: "x"}
  write: [., ./out]
  execute:
  - /w/bin
"""


def resolve(path: str) -> str:
    return "/w" if path == "." else path.replace("./", "/w/", 1) if path.startswith("./") else path


def test_pruning_takes_entries_and_leaves_the_rest_as_it_was() -> None:
    unused = [
        Grant("read", "/w/b", "f", 5),
        Grant("execute", "/w/bin", "f", 8),
        Grant("write", "/w/out", "f", 6),
    ]
    assert (
        prune(POLICY, unused, observation(), resolve)
        == """\
version: 1   # kept
filesystem:
  read:
    - ./a   # why
  write: [.]
  execute: []
"""
    )
    assert prune(POLICY.replace("  execute:\n  - /w/bin\n", ""), [], SEEN, resolve) == POLICY.replace(
        "  execute:\n  - /w/bin\n", ""
    )


def test_what_was_granted_for_writing_and_only_read_is_left_for_reading() -> None:
    seen = observation(files=(FileUse("/w/x", list=1), FileUse("/w/a", read=1)))
    unused = [Grant("write", "/w", "f", 6), Grant("write", "/w/out", "f", 6)]
    pruned = prune(POLICY, unused, seen, resolve)
    assert "write: []" in pruned
    assert "    - ./a   # why\n" in pruned
    assert "    - .\n" in pruned
    alone = "version: 1\nfilesystem:\n  write:\n    - .\n    - ./out\n"
    assert prune(alone, unused, seen, resolve) == ("version: 1\nfilesystem:\n  write: []\n  read:\n    - .\n")
