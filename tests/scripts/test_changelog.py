"""The changelog is the fragments, in order, and released sections stay as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.changelog import HEAD, build, collect, fragments_of
from tests.architecture.sources import ROOT


def fragment(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_fragments_are_grouped_by_kind_and_joined(tmp_path: Path) -> None:
    text = collect(
        [
            fragment(tmp_path, "b-one.fixed.md", "A thing\nis fixed.\n"),
            fragment(tmp_path, "c.added.md", "New.\n"),
            fragment(tmp_path, "a.added.md", "First.\n"),
        ]
    )
    assert text == "### Added\n\n- First.\n- New.\n\n### Fixed\n\n- A thing is fixed.\n"


def test_released_sections_are_kept_and_unreleased_is_rebuilt(tmp_path: Path) -> None:
    present = HEAD + "\n## Unreleased\n\n- stale\n\n## 0.1.0 (2026-01-01)\n\n- old\n"
    text = build(present, [fragment(tmp_path, "x.added.md", "New.")])
    assert "stale" not in text
    assert text.index("- New.") < text.index("## 0.1.0") < text.index("- old")
    assert build(text, []).count("## ") == 1, "without fragments nothing is unreleased"


def test_a_badly_named_fragment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"call it <slug>"):
        collect([fragment(tmp_path, "oops.md", "x")])


def test_the_file_in_the_repository_says_nothing_that_no_fragment_says() -> None:
    """Fragments may be newer than the file; the file may not be newer than they are."""
    present = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    built = build(present, fragments_of(ROOT))
    assert present.startswith(HEAD)
    assert not set(present.splitlines()) - set(built.splitlines()), "run `make docs`"
