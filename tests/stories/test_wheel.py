"""The wheel ships the static native binary, and installs into a fresh environment without anything else."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PT_DYNAMIC, PT_INTERP = 2, 3


def program_headers(image: bytes) -> list[int]:
    """The types of an ELF file's program headers (System V ABI, 64-bit little-endian)."""
    assert image[:6] == b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file"
    (offset,) = struct.unpack_from("<Q", image, 0x20)
    size, count = struct.unpack_from("<HH", image, 0x36)
    return [struct.unpack_from("<I", image, offset + index * size)[0] for index in range(count)]


def is_static(image: bytes) -> bool:
    """No interpreter and no dynamic section: nothing of the system is loaded beside it."""
    return not {PT_INTERP, PT_DYNAMIC} & set(program_headers(image))


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        env={**os.environ, **environment},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_a_dynamic_program_is_told_from_a_static_one(capsule_binary: Path) -> None:
    """The positive control: this Python, or the shell, is dynamic."""
    candidates = [Path(sys.executable).resolve(), Path("/bin/bash").resolve(), Path("/bin/ls").resolve()]
    assert any(not is_static(path.read_bytes()) for path in candidates if path.exists())
    assert is_static(capsule_binary.read_bytes())


@pytest.mark.needs("cargo", "uv")
@pytest.mark.timeout(900)
def test_built_wheel_runs_in_a_fresh_environment(tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    host = next(row[6:] for row in run("rustc", "-vV").stdout.splitlines() if row.startswith("host: "))
    built = run(
        "uv", "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", tmp_path,
        REPOSITORY / "capsule",
        PATH=f"{scripts}:{os.environ['PATH']}", MATURIN_PEP517_ARGS="--locked", CARGO_BUILD_TARGET=host,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-3000:]
    (wheel,) = tmp_path.glob("capsule-*.whl")
    assert "-py3-none-" in wheel.name, "one wheel for every Python"

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (binary,) = [name for name in names if name.endswith(".data/scripts/capsule")]
        assert is_static(archive.read(binary))
        assert "capsule/py.typed" in names
        assert [name for name in names if name.endswith("LICENSE")]
        sources = {p.relative_to(REPOSITORY / "capsule/src").as_posix() for p in package_sources()}
        assert sources <= set(names), sorted(sources - set(names))

    environment = tmp_path / "venv"
    assert run("uv", "venv", "--python", sys.executable, environment).returncode == 0
    installed = run("uv", "pip", "install", "--offline", "--no-deps", "--python", environment, wheel)
    assert installed.returncode == 0, installed.stderr
    version = run(environment / "bin/capsule", "--version", PATH="/nonexistent")
    assert version.returncode == 0, version.stderr
    assert version.stdout.startswith("capsule 0."), version.stdout


def package_sources() -> list[Path]:
    return [
        path for path in (REPOSITORY / "capsule/src/capsule").rglob("*.py") if "__pycache__" not in path.parts
    ]
