"""The keyring's value goes into the pipe, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKEND = """
import keyring.backend, keyring.errors
class Ring(keyring.backend.KeyringBackend):
    priority = 9
    def get_password(self, service, user):
        if service == "locked":
            raise keyring.errors.KeyringLocked("it says sesame-VALUE")
        return {"maps": "sesame-VALUE é"}.get(service)
    def set_password(self, service, user, password): raise keyring.errors.PasswordSetError(service)
"""


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real keyring backend of the library, with known content."""
    (tmp_path / "ring_of_tests.py").write_text(BACKEND)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "ring_of_tests.Ring")


def run(*words: str, stdout: int | None = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "capsule.egress.custodian", *words],
        stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.usefixtures("ring")
def test_the_value_is_written_to_the_pipe() -> None:
    done = run("maps", "me")
    assert (done.returncode, done.stdout, done.stderr) == (0, "sesame-VALUE é".encode(), b"")


@pytest.mark.usefixtures("ring")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none", "me"), "has no such entry; keyring set none me"),
        (("locked", "me"), "refuses (KeyringLocked); unlock it"),
        (("maps",), "not a service and a user"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_handed_over(words: tuple[str, ...], said: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (125, b"")
    assert said in done.stderr.decode()
    assert b"VALUE" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    done = run("maps", "me")
    assert (done.returncode, done.stdout) == (125, b"")
    assert "this host has no keyring; start one" in done.stderr.decode()


@pytest.mark.usefixtures("ring")
def test_a_file_or_a_terminal_gets_nothing(tmp_path: Path) -> None:
    with (tmp_path / "kept").open("wb") as file:
        done = run("maps", "me", stdout=file.fileno())
    assert done.returncode == 125
    assert "would keep a secret" in done.stderr.decode()
    assert (tmp_path / "kept").read_bytes() == b""
    outer, inner = os.openpty()
    try:
        assert run("maps", "me", stdout=inner).returncode == 125
        os.set_blocking(outer, False)
        with pytest.raises(BlockingIOError):
            os.read(outer, 1)
    finally:
        os.close(outer)
        os.close(inner)
