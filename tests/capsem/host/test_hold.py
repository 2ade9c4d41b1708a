from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host import hold

HOLDS = """
import subprocess, sys
from pathlib import Path
from capsem.host.hold import take
from capsem.host.hold import leave
take(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
for line in sys.stdin:
    leave(Path(sys.argv[1]))
    print("left", flush=True)
"""


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds `tmp_path`, and a child of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        yield process, child
    finally:
        os.kill(child, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_whose_a_directory_is_until_that_process_ends_whatever_its_children_do(
    tmp_path: Path, monitor: tuple[subprocess.Popen[str], int]
) -> None:
    process, child = monitor
    assert hold.holder(tmp_path) == process.pid
    with pytest.raises(MachineError, match=f"another monitor .process {process.pid}. is at work"):
        hold.take(tmp_path)
    assert hold.holder(tmp_path) == process.pid, "looking and trying takes nothing away"
    hold.kill(tmp_path)
    assert process.wait(60) == -signal.SIGKILL
    os.kill(child, 0)
    assert hold.holder(tmp_path) is None
    hold.kill(tmp_path)


def test_who_has_done_with_it_leaves_it_to_another(
    tmp_path: Path, monitor: tuple[subprocess.Popen[str], int]
) -> None:
    process, _ = monitor
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("leave\n")
    process.stdin.flush()
    assert process.stdout.readline() == "left\n"
    assert process.poll() is None
    assert hold.holder(tmp_path) is None
    hold.take(tmp_path)
    assert hold.holder(tmp_path) is None, "its own is nobody else's"
    hold.kill(tmp_path)
    hold.leave(tmp_path)
    hold.leave(tmp_path / "nothing")


def test_what_nobody_holds(tmp_path: Path) -> None:
    assert hold.holder(tmp_path) is None
    (tmp_path / "monitor.lock").touch()
    assert hold.holder(tmp_path) is None
    (tmp_path / "monitor.lock").unlink()
    (tmp_path / "monitor.lock").symlink_to("/etc/passwd")
    with pytest.raises(MachineError, match=r"monitor\.lock"):
        hold.take(tmp_path)
    with pytest.raises(MachineError, match=r"monitor\.lock"):
        hold.take(tmp_path / "nothing")
