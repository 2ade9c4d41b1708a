"""`scripts/find-python` takes the newest fitting interpreter, wherever it is, and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/find-python"


def find(path: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(home), **more}
    return subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False)


def interpreter(folder: Path, name: str, answer: str) -> Path:
    """A program that answers the probe as some interpreter would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)
    return path


def test_it_finds_a_real_one() -> None:
    done = find(str(Path(sys.executable).parent), Path.home())
    assert done.returncode == 0
    version = subprocess.run(
        [done.stdout.strip(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert re.fullmatch(r"Python 3\.1[1-4]\.\d+\n", version)


def test_the_newest_by_number_wins_not_the_first(tmp_path: Path) -> None:
    interpreter(tmp_path / "a", "python3", "echo 3.13.9 /a/python3")
    interpreter(tmp_path / ".pyenv/versions/3.14.10/bin", "python3", "echo 3.14.10 /b/python3")
    interpreter(tmp_path / ".pyenv/versions/3.14.9/bin", "python3", "echo 3.14.9 /c/python3")
    assert find(str(tmp_path / "a"), tmp_path).stdout == "/b/python3\n"


def test_one_that_does_not_run_or_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    interpreter(tmp_path / "a", "python3.14", "exit 127")
    interpreter(tmp_path / "a", "python3.13", "exit 0")  # runs, and the probe prints nothing: it does not fit
    interpreter(tmp_path / "a", "python3.12", "echo 3.99.0 /a/python3.12")
    assert find(str(tmp_path / "a"), tmp_path).stdout == "/a/python3.12\n"


def test_the_named_one_is_taken_or_nothing(tmp_path: Path) -> None:
    named = interpreter(tmp_path, "mine", "echo 3.11.0 /mine")
    assert find("/nowhere", tmp_path, CAPSULE_PYTHON=str(named)).stdout == "/mine\n"
    broken = find(os.defpath, tmp_path, CAPSULE_PYTHON="/nowhere/python")
    assert (broken.returncode, broken.stdout) == (1, "")


@pytest.mark.parametrize("version", ["3.10.4", "3.15.0"])
def test_the_probe_itself_refuses_versions_outside_the_range(version: str) -> None:
    text = SCRIPT.read_text()
    probe = re.search(r"probe='(.*?)'\n", text, re.DOTALL)
    assert probe
    parts = tuple(map(int, version.split(".")))
    fake = (
        f"import sys, types; sys.version_info = type('V', (tuple,), dict(releaselevel='final'))({parts!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", fake + probe[1]], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
