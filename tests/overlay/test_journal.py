"""An application that is killed, at every step that it takes: all of it is put back, by who comes next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsule.overlay import journal
from capsule.overlay.journal import recover
from capsule.overlay.manifest import OverlayError
from tests.overlay.conftest import Made
from tests.overlay.test_apply import apply, made, tree

__all__ = ["made"]

STEPS = ("rename", "mkdir", "unlink", "rmdir", "fchmod", "symlink", "fsync", "ftruncate")


def killed_at(made: Made, number: int, prepare: Callable[[], None] = lambda: None) -> bool:
    """Apply in a process of its own that ends before its step of that number; False: it had not so many."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def step(*words: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == number:
                    os._exit(9)
                return real(*words, **named)

            return step

        try:
            prepare()
            for name in STEPS:
                setattr(os, name, counted(name))
            apply(made)
        except BaseException:  # noqa: BLE001 - a child tells by its code
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 9}
    return code == 9


def recovered(made: Made) -> bool:
    return recover(made.root, made.upper.parent)


def test_whenever_it_is_killed_all_of_it_is_put_back_or_all_is_there(made: Made) -> None:
    before = tree(made.root)
    half = put_back = number = 0
    while killed_at(made, number := number + 1):
        now = tree(made.root)
        staged = [name for name in now if name.startswith(".capsule-apply-")]
        half += (
            bool(staged)
            and {name: text for name, text in now.items() if "capsule-apply" not in name} != before
        )
        if recovered(made):
            put_back += 1
            assert tree(made.root) == before, number
        elif tree(made.root) != before:
            # It was committed, and only what is to be removed was left.
            break
        assert not recovered(made), "a second time finds nothing"
        assert sorted(path.name for path in made.upper.parent.iterdir()) == ["before", "upper", "work"]
    assert half > 5, "there were moments in which it was half done"
    assert put_back > 10
    assert not [name for name in tree(made.root) if "capsule-apply" in name]
    assert tree(made.root)["old"].endswith(" 2")


def test_what_has_become_something_else_is_not_touched(made: Made) -> None:
    number = 1
    while True:
        assert killed_at(made, number)
        staging = next(made.root.glob(".capsule-apply-*"), made.root)
        if [*staging.glob("*.old")]:
            break
        recovered(made)
        number += 1
    gone = next(
        name
        for name in ("becomes-directory", "becomes-file", "gone", "old")
        if not (made.root / name).exists()
    )
    (made.root / gone).mkdir()
    (made.root / gone / "mine").write_text("mine")
    with pytest.raises(OverlayError, match="become something else") as raised:
        recovered(made)
    assert str(staging) in raised.value.message
    assert (made.root / gone / "mine").read_text() == "mine"
    assert [*staging.glob("*.old")], "what stood there is kept"


def test_a_journal_in_the_root_is_not_believed(made: Made, tmp_path: Path) -> None:
    """A guest can have a file of that name taken over; what it says is nobody's word."""
    planted = made.root / ".capsule-apply-0000"
    planted.mkdir()
    (planted / journal.NAME).write_bytes(b"{}")
    (planted / "0.old").write_text("evil")
    before = tree(made.root)
    assert not recovered(made)
    assert tree(made.root) == before


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"root":1,"staging":"x","steps":[]}'])
def test_a_journal_that_is_none_is_told(made: Made, text: bytes) -> None:
    (made.upper.parent / journal.NAME).write_bytes(text)
    with pytest.raises(OverlayError, match="not a journal"):
        recovered(made)
    (made.upper.parent / journal.NAME).write_bytes(b'{"root":"/else","staging":"x","steps":[]}')
    with pytest.raises(OverlayError, match="is of /else"):
        recovered(made)
