"""`capsule-egress` killed at each step of a request, and a disk that is full or read-only under it.

Each time: the program fails and does not hang, nothing goes past, the record says it, and the next run works.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.native.egress_faulty import GOOD, SILENT, Faulty
from tests.native.egress_outside import Installation
from tests.native.egress_site import until
from tests.native.running import Capsule

pytestmark = [
    pytest.mark.needs("userns", "landlock", "seccomp-notify", "egress", "curl"),
    pytest.mark.timeout(120),
]

RULES = "version: 1\nrules:\n  - {id: ask-first, on: http, when: 'http.path == \"/asked\"', action: ask}\n"
GO = "until [ -e go ]; do sleep 0.05; done"
STEPS = {
    "before the first connection": "",
    "during the handshake": f"https://{SILENT}/shaking",
    "between request and answer": f"https://{GOOD}/slow/60",
    "in the middle of a body": f"https://{GOOD}/half",
    "in the middle of an upload": f"-T /dev/zero https://{GOOD}/size",
    "while an ask waits": f"https://{GOOD}/asked",
}


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    with Faulty(tmp_path) as found:
        yield found


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    found = Installation()
    monkeypatch.setenv("XDG_STATE_HOME", str(found.state))
    monkeypatch.setenv("CAPSULE_EGRESS_IDLE", "2")
    yield found
    found.close()


def entries(workspace: Path, kind: str) -> list[dict[str, Any]]:
    """What is on the log, of one type."""
    found = map(json.loads, (workspace / "capsule.log").read_text().splitlines())
    return [entry for entry in found if entry.get("type") == kind]


def under_way(step: str, faulty: Faulty, workspace: Path, capsule: Capsule) -> bool:
    """Whether the request has come to this step."""
    seen = [target for _, target, _ in faulty.good.seen]
    match step:
        case "before the first connection":
            return True
        case "during the handshake":
            return faulty.silent > 0
        case "between request and answer":
            return "/slow/60" in seen
        case "in the middle of a body":
            body = workspace / "body"
            return body.exists() and body.stat().st_size > 500
        case "in the middle of an upload":
            return "/size" in seen
    told = capsule.tell([str(capsule.binary), "asks", "--json"])
    return '"id"' in told.stdout


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_program_fails_and_the_next_run_works(
    step: str, capsule_binary: Path, workspace: Path, faulty: Faulty, installation: Installation
) -> None:
    capsule = Capsule(capsule_binary, workspace)
    (workspace / "rules.yaml").write_text(RULES)
    options = capsule.policy(faulty.network(GOOD, SILENT, more="rules: [./rules.yaml]\n"))
    ask = f"curl -sS -N -m 60 -o body {STEPS[step]}; echo first $?" if STEPS[step] else ""
    script = f"touch ready; {ask}\n{GO}\ncurl -sS -m 20 https://{GOOD}/second; echo second $?"
    running = subprocess.Popen(
        capsule.command("/bin/sh", "-c", script, options=options),
        cwd=workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: (workspace / "ready").exists() and under_way(step, faulty, workspace, capsule), 40)
    first = installation.interpreter()
    os.kill(first, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: entries(workspace, "egress.lost"))
    (workspace / "go").touch()
    out, err = running.communicate(timeout=60)
    assert time.monotonic() - killed < 25, "nothing waits for what is gone"
    codes = dict(line.split() for line in out.splitlines())
    assert codes.pop("second") in {"6", "7", "28", "35", "56"}, (out, err)
    assert "0" not in codes.values(), (out, err)
    assert len(codes) == bool(ask)
    assert not [target for _, target, _ in faulty.good.seen if target in {"/second", "/asked"}]
    assert [entry["reason"] for entry in entries(workspace, "egress.lost")] == ["it ended"]
    assert "capsule-egress is lost" in err
    assert entries(workspace, "run.ended")
    told = capsule.tell([str(capsule.binary), "verify", "capsule.log"])
    assert told.returncode == 0, told.stdout
    ran = capsule.run("curl", "-sS", "-m", "20", f"https://{GOOD}/again", options=options)
    assert ran.out == "hello /again", ran.err
    assert installation.interpreter() != first


PARTINGS = {
    "killed": "it ended",
    "hung": "it did not part in time",
    "well": None,
}


@pytest.mark.parametrize("how", PARTINGS)
def test_lost_while_the_command_ends_is_on_the_log(
    how: str, capsule_binary: Path, workspace: Path, faulty: Faulty, installation: Installation
) -> None:
    """What it saw last may be missing: the log does not look as if it were whole."""
    capsule = Capsule(capsule_binary, workspace)
    options = capsule.policy(faulty.network(GOOD))
    script = f"curl -sS -m 20 https://{GOOD}/first; touch ready; {GO}"
    running = subprocess.Popen(
        capsule.command("/bin/sh", "-c", script, options=options),
        cwd=workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until((workspace / "ready").exists, 40)
    egress = installation.interpreter()
    if how != "well":
        os.kill(egress, signal.SIGSTOP)
    (workspace / "go").touch()
    if how == "killed":
        time.sleep(0.5)  # the command has ended, and its last words are waited for
        os.kill(egress, signal.SIGKILL)
    out, err = running.communicate(timeout=60)
    if how == "hung":
        os.kill(egress, signal.SIGCONT)
    reason = PARTINGS[how]
    assert out == "hello /first"
    assert [entry["reason"] for entry in entries(workspace, "egress.lost")] == ([reason] if reason else [])
    assert ("what it saw last may be missing from the log" in err) == bool(reason), err
    assert entries(workspace, "run.ended")
    assert running.returncode == 0
    told = capsule.tell([str(capsule.binary), "verify", "capsule.log"])
    assert told.returncode == 0, told.stdout


DISK = """
mkdir "$1" && mount -t tmpfs -o size=1m,mode=0700 tmpfs "$1" || exit 7
export XDG_STATE_HOME="$1" CAPSULE_EGRESS_IDLE=1
go() {
    timeout 40 "$CAPSULE" run --policy ./policy.yaml -- curl -sS -m 10 "https://good.example/$1" 2>"$1.err"; echo " $?"
}
fill() { dd if=/dev/zero "of=$XDG_STATE_HOME/filler" bs=1k count=4000 oflag=append conv=notrunc 2>/dev/null; }
go first; fill; truncate -s -4K "$XDG_STATE_HOME/filler"
go while-it-serves; sleep 5
fill
# What is left of the last page of its log is room for a start or two.
for each in 1 2 3 4; do said=$(go cannot-start); [ "$said" = " 125" ] && break; sleep 3; done
echo "$said"
rm "$XDG_STATE_HOME/filler"
go room-again; sleep 5
mount -o remount,bind,ro "$XDG_STATE_HOME" || exit 8
go read-only
"$CAPSULE" sessions list >/dev/null 2>list.err; echo "list $?"
mount -o remount,bind,rw "$XDG_STATE_HOME"
go writable-again
"$CAPSULE" verify capsule.log >/dev/null; echo "verify $?"
"$CAPSULE" verify "$XDG_STATE_HOME/capsule/egress/egress.capsule.log" >/dev/null; echo "its own $?"
sleep 3
"""


@pytest.mark.needs("unshare")
def test_a_full_or_read_only_disk_under_egress_refuses_the_run_and_says_so(
    capsule_binary: Path, workspace: Path, faulty: Faulty, tmp_path: Path
) -> None:
    capsule = Capsule(capsule_binary, workspace)
    capsule.policy(faulty.network(GOOD))
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", DISK, "sh", f"/var/tmp/d{os.getpid()}"],
        cwd=workspace, env={**os.environ, "CAPSULE": str(capsule_binary)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    os.rmdir(f"/var/tmp/d{os.getpid()}")
    assert done.stdout.splitlines() == [
        "hello /first 0", "hello /while-it-serves 0", " 125", "hello /room-again 0", " 125", "list 125",
        "hello /writable-again 0", "verify 0", "its own 0",
    ], done.stderr  # fmt: skip
    said = {path.stem: path.read_text() for path in workspace.glob("*.err")}
    assert "capsule-egress did not start: " in said["cannot-start"]
    assert "No space left on device" in said["cannot-start"]
    assert "make room there" in said["cannot-start"]
    assert "Read-only file system" in said["read-only"]
    assert "Read-only file system" in said["list"]
    assert "Traceback" not in said["list"]
    reached = [target for _, target, _ in faulty.good.seen if target != "/cannot-start"]
    assert reached == ["/first", "/while-it-serves", "/room-again", "/writable-again"]
