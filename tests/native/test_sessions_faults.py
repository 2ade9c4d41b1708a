"""The session database on a disk that is full or read-only, and damaged before a run: said in a sentence, nothing lost.

Runs go on meanwhile: what they record is on their log, and the database is made from logs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.native.running import Capsule

pytestmark = [
    pytest.mark.needs("userns", "unshare", "landlock", "seccomp-notify"),
    pytest.mark.timeout(240),
]

SCRIPT = """
mkdir "$1" && mount -t tmpfs -o size=2m,mode=0700 tmpfs "$1" || exit 7
export XDG_STATE_HOME="$1"
db="$1/capsule/sessions.db"
run() { timeout 60 "$CAPSULE" run -- true 2>&1; echo "$1: run $?"; }
list() { timeout 60 "$CAPSULE" sessions list >"$1.out" 2>"$1.err"; echo "$1: $? $(grep -c '^r-' "$1.out")"; }
fill() { dd if=/dev/zero "of=$XDG_STATE_HOME/filler" bs=1k count=8000 2>/dev/null; }
run one; fill
list full-without-database
run full
rm "$XDG_STATE_HOME/filler"
list room
head -c 400000 /dev/urandom >"$XDG_STATE_HOME/most"; fill
i=0
while [ $i -lt 12 ]; do timeout 60 "$CAPSULE" run -- true >/dev/null 2>&1 || echo refused; i=$((i+1)); done
list full-with-database
rm "$XDG_STATE_HOME/filler"
list room-again
mount -o remount,bind,ro "$XDG_STATE_HOME"
list read-only
mount -o remount,bind,rw "$XDG_STATE_HOME"
echo garbage | dd "of=$db" conv=notrunc 2>/dev/null
run garbage
list garbage
head -c 60000 /dev/urandom | dd "of=$db" conv=notrunc bs=4096 seek=4 2>/dev/null
run holes
"$CAPSULE" sessions rebuild >/dev/null 2>rebuild.err; echo "rebuild: $?"
list holes
"$CAPSULE" sessions rebuild --check >/dev/null; echo "check: $?"
"$CAPSULE" verify capsule.log >/dev/null; echo "verify: $?"
"""


def test_a_database_that_cannot_be_written_or_read_is_said_and_made_again(
    capsule_binary: Path, workspace: Path
) -> None:
    place = Path(f"/var/tmp/s{os.getpid()}")
    capsule = Capsule(capsule_binary, workspace)
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh", str(place)],
        cwd=capsule.workspace, env={**os.environ, "CAPSULE": str(capsule_binary)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=230, check=False,
    )  # fmt: skip
    place.rmdir()
    assert done.stdout.splitlines() == [
        "one: run 0", "full-without-database: 125 0", "full: run 0", "room: 0 2", "full-with-database: 125 0",
        "room-again: 0 14", "read-only: 125 0", "garbage: run 0", "garbage: 0 15", "holes: run 0", "rebuild: 0",
        "holes: 0 16", "check: 0", "verify: 0",
    ], done.stderr  # fmt: skip
    said = {path.stem: path.read_text() for path in workspace.glob("*.err")}
    assert not [name for name, text in said.items() if "Traceback" in text]
    for name in ("full-without-database", "full-with-database"):
        assert "make room there" in said[name], said[name]
    assert "Read-only file system" in said["read-only"]
    assert "damaged" in said["garbage"]
    assert "made again from the logs" in said["garbage"]
