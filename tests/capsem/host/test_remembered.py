"""What is remembered of a log goes with it, and not before: against the real recorder's memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from capsem.host.remembered import forget, remove_with_logs
from capsule.places import state_directory

pytestmark = [pytest.mark.usefixtures("capsem_home")]


def remembered() -> tuple[int, int]:
    return tuple(len([*(state_directory() / name).glob("*")]) for name in ("heads", "paths"))  # type: ignore[return-value]


def record(binary: Path, log: Path) -> None:
    subprocess.run(
        [binary, "record", "--log", log],
        input=b'{"type":"machine.exec","run":"r-m-00000001"}\n',
        check=True,
        timeout=60,
    )


def test_it_goes_with_the_directory_and_a_log_that_is_there_stays(
    tmp_path: Path, capsule_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    machine = tmp_path / "machine"
    machine.mkdir()
    for log in (machine / "qemu.log", machine / "proxy.capsule.log", tmp_path / "kept.log"):
        record(capsule_binary, log)
    (machine / "console.log").write_text("none of Capsule's\n")
    assert remembered() == (3, 3)
    forget(tmp_path / "kept.log")
    assert remembered() == (3, 3), "it is still there"
    remove_with_logs(machine)
    assert not machine.exists()
    assert remembered() == (1, 1)
    subprocess.run(
        [capsule_binary, "verify", tmp_path / "kept.log"], check=True, timeout=60, capture_output=True
    )
    (tmp_path / "kept.log").unlink()
    forget(tmp_path / "kept.log")
    assert remembered() == (0, 0)


def test_what_names_no_log_removes_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    heads = state_directory() / "heads"
    heads.mkdir(parents=True)
    (heads / "a").write_text("a")
    forget(tmp_path / "never.log")
    assert (heads / "a").exists()
