from __future__ import annotations

from pathlib import Path

import pytest

from capsule.cli.overlay.show import summary, unified
from capsule.overlay.change import ABSENT, Change, Entry
from capsule.overlay.manifest import Root


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (Change("a", "added", ABSENT, Entry("file", 0o644)), "A /w/a"),
        (Change("a", "added", ABSENT, Entry("directory", 0o755)), "A /w/a/"),
        (Change("a", "removed", Entry("directory", 0o755), ABSENT), "D /w/a/"),
        (Change("a", "mode", Entry("file", 0o644), Entry("file", 0o755)), "m /w/a  mode 644 -> 755"),
        (Change("a", "added", ABSENT, Entry("link", 0o777, target="\x1b")), "A /w/a -> \\x1b"),
        (
            Change("a", "added", ABSENT, Entry("special"), refused="it is a FIFO"),
            "A /w/a   REFUSED: it is a FIFO",
        ),
    ],
)
def test_one_line(change: Change, line: str) -> None:
    assert summary(Root("/w", 0), change, "/elsewhere") == line


def test_a_missing_last_newline_is_said(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "a").write_text("x\n")
    (tmp_path / "new" / "a").write_text("x")
    change = Change("a", "changed", Entry("file", 0o644, 2), Entry("file", 0o644, 1))
    lines = list(
        unified(Root(str(tmp_path / "old"), 0), tmp_path / "new", change, "/", raw=False, colour=True)
    )
    assert any("no newline at end" in line and line.startswith("\x1b[32m+") for line in lines)


def test_names_are_seen_from_where_we_are() -> None:
    change = Change("src/a", "added", ABSENT, Entry("file", 0o644))
    assert summary(Root("/w", 0), change, "/w") == "A src/a"
    assert summary(Root("/w", 0), change, "/w/src") == "A a"
    assert summary(Root("/w", 0), change, "/w/s") == "A /w/src/a"
