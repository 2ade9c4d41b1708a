from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from capsem.cli.image.list import command
from tests.capsem.host.made import made_image


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path))


def test_none_says_what_to_do() -> None:
    assert "capsem image build" in CliRunner().invoke(command, catch_exceptions=False).output
    assert json.loads(CliRunner().invoke(command, ["--json"]).output) == []


def test_every_image_is_a_row() -> None:
    older, newer = made_image("one"), made_image("two", b"other")
    lines = CliRunner().invoke(command, catch_exceptions=False).output.splitlines()
    assert lines[0].split() == ["NAME", "DIGEST", "KERNEL", "PACKAGES", "SIZE"]
    assert {line.split()[0]: line.split()[1] for line in lines[1:]} == {
        "one": older.digest[:12], "two": newer.digest[:12],
    }  # fmt: skip
    rows = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert [row["names"] for row in rows] == [["two"], ["one"]]
