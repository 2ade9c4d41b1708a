"""`scripts/setup` is quick when nothing changed, and its helpers say what they cannot do."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"source {SCRIPTS}/say.sh\n{script}"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "floor", "code"),
    [
        ("1.85.0", "1.85", 0),
        ("1.96.0+dfsg1", "1.85", 0),
        ("1.9.0", "1.85", 1),
        ("0.66.0", "1.85", 1),
        ("3.11.2", "3.11", 0),
    ],
)
def test_versions_are_compared_as_numbers(version: str, floor: str, code: int) -> None:
    assert shell(f"at_least {version} {floor} || exit 1").returncode == code


def test_the_digest_follows_contents_and_not_build_products(tmp_path: Path) -> None:
    source = tmp_path / "native"
    (source / "target").mkdir(parents=True)
    (source / "main.rs").write_text("fn main() {}")

    def digest() -> str:
        return shell(f"ROOT={tmp_path}; digest_of native").stdout

    first = digest()
    (source / "target/x").write_text("built")
    assert digest() == first
    (source / "main.rs").write_text("fn main() { }")
    assert digest() != first
    assert len(first.strip()) == 32


def test_quietly_is_silent_about_success_and_loud_about_failure() -> None:
    assert shell("quietly echo fine").stdout == ""
    done = shell("quietly sh -c 'echo the cause; exit 3' || exit $?")
    assert (done.returncode, done.stderr) == (3, "the cause\n")


def test_a_failure_names_the_next_step() -> None:
    done = shell("fail 'no bread' 'bake some'")
    assert done.returncode == 1
    assert "stopped: no bread" in done.stderr
    assert "next:    bake some" in done.stderr


def test_without_the_right_to_install_the_line_to_type_is_printed(tmp_path: Path) -> None:
    for name, text in {"apt-get": "exit 1", "sudo": "exit 1", "id": "echo 1000"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [SCRIPTS / "apt-install", "gcc", "libc6-dev"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "sudo apt-get install -y gcc libc6-dev" in done.stderr


@pytest.mark.serial
def test_the_second_time_is_quick() -> None:
    if not (SCRIPTS.parent / ".venv/stamp-native").exists():
        pytest.skip("needs setup: this tree was not made ready by `make setup`")
    subprocess.run([SCRIPTS / "setup"], check=True, capture_output=True, timeout=900)
    started = time.monotonic()
    done = subprocess.run([SCRIPTS / "setup"], check=True, capture_output=True, text=True, timeout=60)
    assert time.monotonic() - started < 15
    assert "building" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("ready")
