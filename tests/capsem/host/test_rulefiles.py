from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.errors import UsageError
from capsem.host.rulefiles import rules_of


def test_files_are_read_as_they_are_now(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("version: 1\nrules: []\n")
    assert rules_of([file, str(file)]) == [{"file": str(file), "text": "version: 1\nrules: []\n"}] * 2
    assert rules_of([]) == []


def test_what_is_no_file_of_rules_is_said_with_its_path_and_the_next_step(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "binary").write_bytes(b"version: 1 \xff")
    (tmp_path / "large").write_bytes(b" " * ((4 << 20) + 1))
    for name, why in (
        ("none.yaml", "No such file"), (".", "directory|no regular file"), ("fifo", "no regular file"),
        ("binary", "byte 11 is no UTF-8"), ("large", "larger than 4 MiB"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=why) as caught:
            rules_of([tmp_path / name])
        assert str(tmp_path / name) in caught.value.message
        assert "docs/formats/rules.md" in caught.value.next_step
