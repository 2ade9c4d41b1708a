"""`capsule run --pass-fd`: the command inherits these descriptors, at their numbers, and no other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]


def run(
    binary: Path, workspace: Path, options: list[str], line: str, fds: list[int]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, "run", "--log", workspace / "c.log", *options, "--", "/bin/bash", "-c", line],
        pass_fds=fds, cwd=workspace, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip


def test_what_is_passed_arrives_and_what_is_not_does_not(capsule_binary: Path, workspace: Path) -> None:
    ours, theirs = socket.socketpair()
    kept = os.memfd_create("kept")
    os.write(kept, b"from outside")
    os.lseek(kept, 0, os.SEEK_SET)
    stray = os.open("/etc/hostname", os.O_RDONLY)
    fds = [theirs.fileno(), kept, stray]
    options = ["--pass-fd", str(theirs.fileno()), "--pass-fd", str(kept)]
    line = f"cat <&{kept} >&{theirs.fileno()}; readlink /proc/self/fd/{stray} || echo not there"
    done = run(capsule_binary, workspace, options, line, fds)
    theirs.close()
    assert ours.recv(100) == b"from outside"
    assert ours.recv(100) == b"", "nobody else holds the other end"
    assert done.stdout == "not there\n", done
    control = run(capsule_binary, workspace, ["--pass-fd", str(stray)], f"cat <&{stray}", [stray])
    assert control.stdout == Path("/etc/hostname").read_text(), control
    for number in (kept, stray):
        os.close(number)
    ours.close()


def test_it_is_on_the_record(capsule_binary: Path, workspace: Path) -> None:
    kept = os.memfd_create("kept")
    assert run(capsule_binary, workspace, ["--pass-fd", str(kept)], "true", [kept]).returncode == 0
    entries = [json.loads(line) for line in (workspace / "c.log").read_text().splitlines()]
    assert [entry["passed"] for entry in entries if entry.get("type") == "run.started"] == [[kept]]
    os.close(kept)


@pytest.mark.parametrize("option", ["1", "x", "999"])
def test_streams_and_numbers_of_nothing_are_refused(
    capsule_binary: Path, workspace: Path, option: str
) -> None:
    done = run(capsule_binary, workspace, ["--pass-fd", option], "true", [])
    assert done.returncode == 125
    assert "--pass-fd" in done.stderr
