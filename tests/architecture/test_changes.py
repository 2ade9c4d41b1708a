"""Fragments of the changelog: one short statement a file, `changes/<slug>.<added|changed|fixed>.md`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

FRAGMENTS = sorted(path for path in (ROOT / "changes").iterdir() if path.name != "README.md")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.(added|changed|fixed)\.md")


def test_there_are_fragments() -> None:
    assert FRAGMENTS


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_fragment(path: Path) -> None:
    assert NAME.fullmatch(path.name), "changes/<slug>.<added|changed|fixed>.md"
    text = path.read_text(encoding="utf-8")
    assert 0 < len(text.strip()) <= 500
    assert len(text.strip().splitlines()) <= 4
    assert not text.startswith(("#", "-", "*")), (
        "a plain sentence: the heading and the dash are added when it is collected"
    )
    assert text.rstrip().endswith((".", "`")), "a whole sentence"
