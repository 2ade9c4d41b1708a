from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import ImageError
from capsem.host.agent import find_agent

PROGRAM = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00" + bytes(44)


def test_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(PROGRAM)
    monkeypatch.setenv("CAPSEM_AGENT", str(tmp_path / "one"))
    assert find_agent() == tmp_path / "one"
    assert find_agent(tmp_path / "two") == tmp_path / "two"


def test_one_that_is_named_and_missing_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAPSEM_AGENT", str(tmp_path / "none"))
    with pytest.raises(ImageError, match="none"):
        find_agent()


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", PROGRAM.replace(b"\x3e\x00", b"\xb7\x00")])
def test_what_the_guest_cannot_run(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "agent").write_bytes(data)
    with pytest.raises(ImageError, match="not a program for x86_64"):
        find_agent(tmp_path / "agent")
