from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from capsem.errors import ImageError
from capsem.host.commands import need, run


def test_what_a_tool_says_comes_back_and_is_seen_on_the_way() -> None:
    seen: list[str] = []
    said = run(
        ["sh", "-c", "echo $WORD; echo two >&2"], what="x", environment={"WORD": "one"}, seen=seen.append
    )
    assert said == "one\ntwo"
    assert seen == ["one", "two"]


def test_a_tool_is_fed() -> None:
    def feed(pipe: IO[bytes]) -> None:
        pipe.write(b"abc")

    assert run(["cat"], what="x", feed=feed) == "abc"


def test_a_tool_that_fails_is_quoted() -> None:
    with pytest.raises(ImageError, match="making x failed: sh ended with 3\nno such luck"):
        run(["sh", "-c", "echo no such luck; exit 3"], what="making x")


def test_a_tool_that_does_not_read_to_the_end_has_failed() -> None:
    def feed(pipe: IO[bytes]) -> None:
        for _ in range(100):
            pipe.write(bytes(65536))

    with pytest.raises(ImageError, match="ended with 0"):
        run(["true"], what="x", feed=feed)


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("write error: No space left on device", "free some space"),
        ("Temporary failure resolving 'x'", "mirror"),
        ("E: newuidmap failed", "/etc/subuid"),
        ("else", "see the words above"),
    ],
)
def test_the_next_step_fits_what_went_wrong(words: str, step: str) -> None:
    with pytest.raises(ImageError) as raised:
        run(["sh", "-c", f'echo "{words}"; exit 1'], what="x")
    assert step in raised.value.next_step


def test_a_tool_that_is_missing_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="not on this machine: mksquashfs, flex") as raised:
        need("mksquashfs", "flex", "mksquashfs")
    assert raised.value.next_step.endswith("squashfs-tools flex")


def test_an_interruption_ends_the_tool_and_its_children(tmp_path: Path) -> None:
    def seen(line: str) -> None:
        (tmp_path / "pid").write_text(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", "sleep 600 & echo $!; wait"], what="x", seen=seen)
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            # A child that nobody has waited for yet is dead all the same.
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            os.kill(child, 0)
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.02)
    pytest.fail("the tool's child outlived it")


@pytest.mark.needs("gcc")
def test_a_header_is_needed_as_a_program_is() -> None:
    need("gcc", headers=["stdio.h"])
    with pytest.raises(ImageError, match=r"not on this machine: no-such-header\.h"):
        need("gcc", headers=["no-such-header.h"])


BUILDS = """
import sys
from capsem.host.commands import run
run(["sh", "-c", "sleep 3600 & (trap '' TERM; sleep 3601) & echo $! $$; wait; sleep 3602"],
    what="x", seen=lambda line: print(line, flush=True))
"""


def test_a_builder_that_is_killed_takes_its_tools_with_it() -> None:
    """make, apt and npm have children of their own; one of them does not even mind being told to end."""
    builder = subprocess.Popen([sys.executable, "-c", BUILDS], stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    stubborn, tool = map(int, builder.stdout.readline().split())
    group = [stubborn, tool]
    assert all(os.getpgid(pid) == tool for pid in group)
    builder.kill()
    builder.wait()
    builder.stdout.close()
    until = time.monotonic() + 60
    while _members(tool):
        assert time.monotonic() < until, _members(tool)
        time.sleep(0.05)


KILLED = """
echo before; (trap '' TERM; sleep 3601) & sleep 3602 >/dev/null 2>&1 &
(trap 'echo cleaned up; exit' TERM; sleep 3603 & wait) & echo $$; wait
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN + 2])
def test_what_a_killed_tool_began_ends_and_its_death_is_told(number: int) -> None:
    group = 0

    def seen(line: str) -> None:
        nonlocal group
        if line.isdigit():
            group = int(line)
            assert len(_members(group)) > 3, "the positive control: they run"
            os.kill(group, number)

    began = time.monotonic()
    with pytest.raises(ImageError) as caught:
        run(["sh", "-c", KILLED], what="making x", seen=seen)
    assert time.monotonic() - began < 30
    name = signal.Signals(number).name if number < signal.SIGRTMIN else f"signal {number}"
    assert caught.value.message == f"making x failed: sh was killed ({name})\nbefore\n{group}"
    assert "memory was short" in caught.value.next_step
    assert "words above" not in caught.value.next_step
    until = time.monotonic() + 20
    while left := _members(group):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def test_a_tool_that_ends_by_itself_may_leave_what_runs_on(tmp_path: Path) -> None:
    """It is not hurried: a child that is silent and writes on is no sign of a death."""
    assert run(["sh", "-c", f"(sleep 1; echo late; touch {tmp_path}/there) & exit 0"], what="x") == "late"
    assert (tmp_path / "there").exists()


def test_a_tool_that_ends_leaves_no_guard() -> None:
    run(["true"], what="x")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    assert not any(b"capsem-guard" in name for name in names)


def _members(group: int) -> list[int]:
    """Processes of a group that run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(") ")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append(int(entry.parent.name))
    return found
