"""The launcher's list of what root keeps to itself, and this side's, are one list."""

from __future__ import annotations

import re

from capsule.cli.policy.kept import ROOTS_DIRECTORIES, ROOTS_FILES
from tests.architecture.sources import ROOT


def test_both_sides_name_the_same_files() -> None:
    text = (ROOT / "capsule/native/src/supervise/secrets.rs").read_text(encoding="utf-8")
    lists = {
        name: re.search(rf"const {name}: [^=]*= \[(.*?)\];", text, re.DOTALL)
        for name in ("FILES", "DIRECTORIES")
    }
    found = {name: tuple(re.findall(r'"([^"]+)"', match[1])) for name, match in lists.items() if match}
    assert found == {"FILES": ROOTS_FILES, "DIRECTORIES": ROOTS_DIRECTORIES}
