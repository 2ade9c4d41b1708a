from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import QemuMissingError
from capsem.host.programs import find_qemu, qemu_version


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_missing_qemu_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QemuMissingError) as caught:
        find_qemu("x86_64")
    assert "qemu-system-x86_64" in caught.value.message
    assert caught.value.next_step.startswith("sudo apt-get install -y")
    assert caught.value.next_step.endswith("qemu-system-x86")
    program(tmp_path / "qemu-system-x86_64", "exit 0")
    assert find_qemu("x86_64") == tmp_path / "qemu-system-x86_64"


def test_a_version_is_read_or_refused(tmp_path: Path) -> None:
    good = program(tmp_path / "good", "echo 'QEMU emulator version 7.2.22 (Debian 1:7.2)'")
    assert qemu_version(good) == "7.2.22"
    for bad in ("exit 0", "echo 'version 7.2'; exit 1"):
        with pytest.raises(QemuMissingError):
            qemu_version(program(tmp_path / "bad", bad))
    with pytest.raises(QemuMissingError, match="does not run"):
        qemu_version(tmp_path / "none")
