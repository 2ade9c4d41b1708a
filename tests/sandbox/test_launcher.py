"""Finding the binary in its fixed places, and command lines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from capsule.errors import SandboxError
from capsule.sandbox.launcher import Request, command, find_binary, interpreter_reads


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_named_binary_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = program(tmp_path / "mine")
    monkeypatch.setenv("CAPSULE_BINARY", str(named))
    assert find_binary() == named


def test_a_named_binary_that_is_none_is_not_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("not a program")
    monkeypatch.setenv("CAPSULE_BINARY", str(tmp_path / "text"))
    with pytest.raises(SandboxError, match=r"looked at .*/text; .*CAPSULE_BINARY"):
        find_binary()


def test_without_a_name_the_environment_of_the_interpreter_is_searched(
    monkeypatch: pytest.MonkeyPatch, capsule_binary: Path
) -> None:
    monkeypatch.delenv("CAPSULE_BINARY", raising=False)
    assert find_binary().name == capsule_binary.name or find_binary().name == "capsule"


def test_a_command_line_says_everything_before_the_two_dashes(capsule_binary: Path) -> None:
    request = Request(
        policy="p.yaml", log="l", tool="t", env={"A": "b=c"}, timeout=1.5, overlay=True,
        allow_degraded=["cgroup"], read=["/opt"],
    )  # fmt: skip
    line = command(request, ["ls", "--policy"], "--worker")
    assert line[1:] == [
        "run", "--policy", "p.yaml", "--log", "l", "--tool", "t", "--env", "A=b=c", "--timeout", "1.500",
        "--overlay", "--allow-degraded", "cgroup", "--read", "/opt", "--worker", "--", "ls", "--policy",
    ]  # fmt: skip
    assert command(Request(), ["ls"])[1:] == ["run", "--", "ls"]


def test_the_interpreter_reads_its_own_places_and_never_everything() -> None:
    reads = [Path(path) for path in interpreter_reads()]
    assert Path("/") not in reads
    assert any(Path(sys.prefix).is_relative_to(path) for path in reads)
    assert any(Path(sys.executable).resolve().is_relative_to(path) for path in reads)
    assert any(Path(interpreter_reads.__code__.co_filename).is_relative_to(path) for path in reads)
