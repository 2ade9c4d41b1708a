from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.overlay.change import ABSENT, Change, Entry, Guard, guarded, judge, points_out, shown

FILE = Entry("file", 0o644, 3)
DIRECTORY = Entry("directory", 0o755)
LINK = Entry("link", 0o777, target="a")
WHITEOUT = Entry("whiteout")


@pytest.mark.parametrize(
    ("upper", "lower", "same", "action"),
    [
        (FILE, ABSENT, False, "added"),
        (FILE, FILE, False, "changed"),
        (FILE, FILE, True, None),
        (Entry("file", 0o755, 3), FILE, True, "mode"),
        (Entry("file", 0o4644, 3), FILE, True, None),
        (FILE, DIRECTORY, False, "replaced"),
        (FILE, LINK, False, "replaced"),
        (WHITEOUT, FILE, False, "removed"),
        (WHITEOUT, ABSENT, False, None),
        (DIRECTORY, DIRECTORY, False, None),
        (DIRECTORY, ABSENT, False, "added"),
        (Entry("directory", 0o700), DIRECTORY, False, "mode"),
        (LINK, LINK, False, None),
        (Entry("link", 0o777, target="b"), LINK, False, "changed"),
        (LINK, ABSENT, False, "added"),
    ],
)
def test_what_an_entry_means(upper: Entry, lower: Entry, same: bool, action: str | None) -> None:
    change = judge("x", upper, lower, same=same)
    assert (change and change.action) == action
    assert change is None or change.refused is None


@pytest.mark.parametrize("what", ["FIFO", "socket", "device"])
def test_special_files_are_refused(what: str) -> None:
    change = judge("x", Entry("special", what=what), ABSENT, same=False)
    assert change is not None
    assert change.refused == f"it is a {what}"


def test_a_conflict_goes_with_every_change() -> None:
    for upper in (FILE, WHITEOUT, LINK, DIRECTORY, Entry("special", what="FIFO")):
        change = judge("x", upper, Entry("file", 0o600, 9), same=False, conflict="it changed")
        assert change is not None
        assert change.conflict == "it changed"
    change = judge("x", DIRECTORY, Entry("directory", 0o700), same=False, conflict="it was replaced")
    assert change is not None
    assert change.conflict == "it was replaced"


def test_a_mode_that_was_laid_is_not_the_runs() -> None:
    laid, host = Entry("file", 0o600, 3), Entry("file", 0o664, 3)
    assert judge("x", laid, host, same=True, laid=0o600) is None
    for upper in (Entry("file", 0o700, 3), Entry("file", 0o664, 3)):
        change = judge("x", upper, host, same=True, laid=0o600)
        assert change is not None
        assert change.action == "mode"


def test_a_reviewer_is_told_what_is_dropped() -> None:
    change = judge("x", Entry("file", 0o6755, 3, links=2), ABSENT, same=False)
    assert change is not None
    assert any("6000" in note for note in change.notes)
    assert any("hard links" in note for note in change.notes)


def test_a_reviewer_is_told_that_a_mode_reaches_other_names() -> None:
    change = judge("x", Entry("file", 0o600, 3), Entry("file", 0o644, 3, links=3), same=True)
    assert change is not None
    assert any("all 3 hard links" in note for note in change.notes)
    alone = judge("x", Entry("file", 0o600, 3), Entry("file", 0o644, 3), same=True)
    assert alone is not None
    assert alone.notes == ()


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("a", "b", False),
        ("a", "../b", True),
        ("d/a", "../b", False),
        ("d/a", "../../b", True),
        ("d/a", "../d/../../b", True),
        ("a", "/etc/passwd", True),
        ("a", ".", False),
        ("a", "..", True),
        ("a", "..b", False),
    ],
)
def test_links_that_point_out(path: str, target: str, out: bool) -> None:
    assert points_out(path, target) is out


def test_guarded_names_are_refused_whatever_the_layer_says() -> None:
    guards = [
        (Guard("/w/.git/hooks", "", "protect hooks").pattern(), "hooks"),
        (Guard("/w", "**/.env*", "deny").pattern(), "env"),
        (Guard("/", "**/capsule.yaml", "always").pattern(), "policy"),
        (Guard("/w/[a]", "*.pem", "literal anchor").pattern(), "pem"),
    ]

    def asked(path: str, action: str = "changed", before: Entry = FILE) -> str | None:
        return guarded("/w", Change(path, action, before, FILE), guards)  # type: ignore[arg-type]

    assert asked(".git/hooks/pre-commit") == "hooks"
    assert asked("a/b/.env.local") == "env"
    assert asked("deep/er/capsule.yaml") == "policy"
    assert asked("[a]/x.pem") == "pem"
    assert asked("a/x.pem") is None
    assert asked(".git/index") is None
    assert "hooks" in str(asked(".git", "removed", DIRECTORY))
    assert "hooks" in str(asked(".git", "replaced", DIRECTORY))
    assert asked("src", "removed", DIRECTORY) is None


def test_names_cannot_drive_a_terminal() -> None:
    assert shown("a\nb\x1b[2J\x7f\\ü\u202e\udcff") == "a\\x0ab\\x1b[2J\\x7f\\\\ü\\u{202e}\\xff"


@given(st.text())
def test_shown_names_are_printable_and_told_apart(name: str) -> None:
    assert shown(name).isprintable()
    assert shown(name + "\n") != shown(name + "\\x0a")
