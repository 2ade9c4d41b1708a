"""What a machine never gets and never writes, by the presets that come along and a policy of the directory's own."""

from __future__ import annotations

from itertools import product

import pytest

from capsem.workspace.guards import PRESETS, Guards
from capsule.cli.files import load_policy
from capsule.overlay.change import ABSENT, Change, Entry
from tests.policy.documents import resolve_text

GUARDS = Guards("/w", "/home/u", [load_policy(name) for name in PRESETS])


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "a/b/.env",
        ".env.production",
        "k/server.key",
        "id_rsa",
        ".npmrc",
        "a/credentials.json",
        "a/.ENV",
        "X.PEM",
    ],
)
def test_secrets_are_withheld(path: str) -> None:
    assert "denied by preset:secret-files" in (GUARDS.withheld(path) or "")


@pytest.mark.parametrize(
    "path", ["src/env.py", ".git/config", ".git/hooks/pre-commit", "README.md", "a/.environment"]
)
def test_the_rest_is_sent(path: str) -> None:
    assert GUARDS.withheld(path) is None


KNOWN = {".git", "sub", "sub/.git", "src"}


@pytest.mark.parametrize(
    "path",
    [
        ".git/hooks/post-commit", ".git/config", ".GIT/HOOKS/x", ".vscode/tasks.json", "capsule.yaml",
        ".envrc", ".mcp.json",
        ".claude/settings.json", ".env", "sub/.git/hooks/x", "sub/.git/config", "evil/.git/config", "evil/.git",
        "src/.git", ".git/modules/a/hooks/x",
    ],
)  # fmt: skip
def test_what_runs_on_the_host_is_never_written(path: str) -> None:
    assert GUARDS.unwritable(Change(path, "added", ABSENT, Entry("file")), KNOWN)


@pytest.mark.parametrize(
    "path", [".git/objects/aa/bb", ".git/refs/heads/x", ".git/index", "src/a.py", "sub/.git/index"]
)
def test_work_is_written(path: str) -> None:
    assert GUARDS.unwritable(Change(path, "added", ABSENT, Entry("file")), KNOWN) is None


BARE = {"own.git", "own.git/HEAD", "own.git/objects", "own.git/refs", "half", "half/HEAD", "docs"}


@pytest.mark.parametrize(
    "path",
    ["HEAD", "bare/HEAD", "docs/head", "half/objects", "half/refs/heads/x", "half/Commondir", "own.git/config",
     "own.git/hooks/update", "own.git/config.worktree", "own.git/worktrees/a/gitdir", "own.git/commondir"],
)  # fmt: skip
def test_no_bare_repository_is_made_or_ruled(path: str) -> None:
    assert "git" in (GUARDS.unwritable(Change(path, "added", ABSENT, Entry("file")), BARE) or "")
    assert "git" in (GUARDS.unwritable(Change(path, "changed", Entry("file"), Entry("file")), BARE) or "")


@pytest.mark.parametrize(
    "path", ["bare/objects", "docs/refs", "own.git/objects/aa/bb", "own.git/refs/heads/x", "own.git/HEAD",
             "half/config", ".git/logs/HEAD", "docs/HEAD.md"]
)  # fmt: skip
def test_what_makes_no_repository_is_written(path: str) -> None:
    known = {*BARE, ".git"}
    assert GUARDS.unwritable(Change(path, "added", ABSENT, Entry("file")), known) is None
    assert GUARDS.unwritable(Change(path, "removed", Entry("file"), ABSENT), known) is None


def test_a_directory_that_leads_to_a_guarded_name_is_not_taken_away() -> None:
    gone = Change(".git", "removed", Entry("directory"), ABSENT)
    assert GUARDS.unwritable(gone, KNOWN)
    assert GUARDS.unwritable(Change(".git", "replaced", Entry("directory"), Entry("link")), KNOWN)
    assert GUARDS.unwritable(Change("sub", "removed", Entry("directory"), ABSENT), KNOWN)
    assert GUARDS.unwritable(Change("src", "removed", Entry("directory"), ABSENT), KNOWN) is None


def test_a_policy_of_the_directory_adds_to_the_presets() -> None:
    own = resolve_text("version: 1\nfilesystem:\n  deny: [./data, /w/x, ~/y]\n  protect: [./Makefile]\n")
    guards = Guards("/w", "/w", [*map(load_policy, PRESETS), own])
    assert guards.withheld("data/a.csv") == "denied by /w/capsule.yaml:3"
    assert guards.withheld("x")
    assert guards.withheld("y")
    assert guards.withheld(".env")
    assert guards.unwritable(Change("Makefile", "changed", Entry("file"), Entry("file")), set())


PIECES = [
    "a", ".env", ".ENV", "x.pem", "ΑΣ.pem", "Σ", ".git", ".Git", "config", "hooks", "bin", "id_rsa", "modules", "w",
    "u", ".ssh", "credentials", "*.pem", "\udcff", "\udcff.KEY", "mise.local.toml", "", "lefthook.yml", ".vscode",
]  # fmt: skip


@pytest.mark.parametrize("root", ["/w", "/home/u", "/home/u/.ssh/below", "/"])
def test_what_is_passed_over_is_covered_by_no_pattern(root: str) -> None:
    """Every path of two of these names, and of three of some, against every pattern."""
    guards = Guards(root, "/home/u", [load_policy(name) for name in PRESETS])
    everything = [*guards._denied, *guards._kept]
    covered = passed = 0
    paths = [*product(PIECES, repeat=1), *product(PIECES, repeat=2), *product(PIECES[::3], repeat=3)]
    for path in map("/".join, paths):
        if any(ends.may_cover(path) for ends in guards._ends):
            covered += guards.kept(path) is not None
        else:
            assert guards._covered(path, everything) is None, path
            passed += 1
    assert covered > 100
    assert passed > 20 or root == "/home/u/.ssh/below", "the positive control: some are passed over"
