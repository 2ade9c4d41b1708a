"""What becomes of machines: suspended, copied, crashed, ended in the middle of it. Whole ones, as in test_machines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.vm.logged import logged
from tests.vm.marks import machines
from tests.vm.processes import alive, qemus_of, until_gone
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(1800)

STEP = "do i=$((i+1)); echo $i; sleep 0.1; done"
COUNT = "(i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.1; done) >/dev/null 2>&1 </dev/null &"


def monitor_of(home: Home, name: str) -> int:
    return int(home.info(name)["status"]["pid"])


def counted(home: Home, name: str) -> int:
    return int(home.text("exec", name, "--", "cat", "/tmp/count"))


def answered(home: Home, *words: str) -> tuple[int, str]:
    """How the program ended, and what it complained of."""
    done = subprocess.run(
        [sys.executable, "-m", "capsem.cli", *words], capture_output=True, text=True, env=home.env, timeout=300,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def types(log: str) -> list[str]:
    entries = logged(log)
    return [entry["type"] for entry in entries if str(entry.get("type", "")).startswith("machine.")]


def test_suspended_and_resumed_past_the_service_and_copied_alive(home: Home, capsule_binary: Path) -> None:
    temporary = home.create()
    home.capsem("exec", temporary, "--", "sh", "-c", f"echo mem >/tmp/m; echo disk >/root/d; {COUNT}")
    assert home.text("persist", temporary, "kept") == "kept"
    before = home.text("exec", "kept", "--", "cat", "/proc/sys/kernel/random/boot_id")
    home.capsem("suspend", "kept")
    assert qemus_of(home.path) == []
    found = home.info("kept")
    assert (found["state"], found["next_step"]) == ("suspended", "capsem resume kept")
    assert Path(found["directory"], "suspended").stat().st_mode & 0o777 == 0o600
    for verb in ("start", "stop", "suspend", "exec"):
        code, said = answered(home, verb, "kept", *(("--", "true") if verb == "exec" else ()))
        assert code == 1, verb
        assert "suspended" in said, verb
    # Everything that runs is ended, as when the host is: what was kept is on the disk.
    service = home.service()
    os.kill(service, signal.SIGKILL)
    until_gone(service)
    home.capsem("resume", "kept")
    assert not Path(found["directory"], "suspended").exists()
    assert home.text("exec", "kept", "--", "cat", "/tmp/m", "/root/d").split() == ["mem", "disk"]
    first = counted(home, "kept")
    assert home.text("exec", "kept", "--", "cat", "/proc/sys/kernel/random/boot_id") == before, (
        "it did not boot"
    )
    now = int(home.text("exec", "kept", "--", "date", "+%s"))
    assert abs(now - time.time()) < 30, "its clock is the host's"
    assert home.text("exec", "kept", "--", "hostname") == "kept"

    # Live: the parent runs on, with what is attached to it.
    follow = subprocess.Popen(
        [*home_line(), "exec", "kept", "--", "sh", "-c", f"i=0; while [ $i -lt 200 ]; {STEP}"],
        env=home.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert follow.stdout is not None
    assert follow.stdout.readline() == b"1\n"
    made = json.loads(home.capsem("branch", "kept", "2", "-n", "one", "-n", "two", "--json"))
    assert made["paused_ms"] > 0
    randoms = set()
    for name in ("kept", "one", "two"):
        assert counted(home, name) >= first, name
        assert home.text("exec", name, "--", "hostname") == name
        randoms.add(home.text("exec", name, "--", "sh", "-c", "head -c 16 /dev/urandom | od -An -tx1"))
        home.capsem("exec", name, "--", "sh", "-c", f"echo {name} >/root/d; sync")
    assert len(randoms) == 3, "no two have the same random numbers"
    for name in ("kept", "one", "two"):
        assert home.text("exec", name, "--", "cat", "/root/d") == name, "each has a disk of its own"
    rest = follow.communicate(timeout=300)[0]
    assert rest.split() == [str(number).encode() for number in range(2, 201)], "nothing of its output is lost"
    one = home.info("one")
    entries = logged(one["log"])
    branched = next(entry for entry in entries if str(entry.get("type")).startswith("machine."))
    assert (branched["type"], branched["machine"]) == ("machine.branched", found["id"])
    parent = Path(found["log"]).read_text()
    assert json.dumps(branched["checkpoint"], ensure_ascii=False) in parent, (
        "a checkpoint of its parent's log"
    )
    assert f'"copy":"{branched["copy"]}"' in parent

    # An image of it, and a machine of that.
    home.capsem("fork", "one", "forked")
    code, said = answered(home, "image", "rm", "minimal")
    assert code == 1
    assert "needed by" in said
    home.capsem("delete", "--force", "one")
    home.capsem("delete", "--force", "two")
    home.capsem("create", "--image", "forked", "-n", "again")
    assert home.text("exec", "again", "--", "cat", "/root/d") == "one"
    home.capsem("delete", "--force", "again")
    home.capsem("image", "rm", "forked")

    # What was written outlives a restart, and everything is on the log.
    home.capsem("restart", "kept")
    assert home.text("exec", "kept", "--", "cat", "/root/d") == "kept"
    told = [one["what"] for one in json.loads(home.capsem("history", "kept", "--json"))]
    assert [what for what in told if what != "exec"] == [
        "started", "suspended", "started", "copied", "stopped", "started",
    ]  # fmt: skip
    home.capsem("delete", "--force", "kept")
    for log in (found["log"], one["log"]):
        subprocess.run(
            [capsule_binary, "verify", log], env=home.env, check=True, capture_output=True, timeout=60
        )
    assert list((home.path / "sessions").iterdir()) == []
    assert qemus_of(home.path) == []


def home_line() -> list[str]:
    return [sys.executable, "-m", "capsem.cli"]


def crashed(home: Home, name: str) -> dict[str, Any]:
    """A machine that has crashed, as it is shown as soon as it was noticed; nothing of it runs, its disk is there."""
    until = time.monotonic() + 60
    while (found := home.info(name))["state"] == "running":
        assert time.monotonic() < until, "its end is not noticed"
    assert found["state"] == "crashed", found
    assert found["problem"]
    assert f"capsem start {name}" in found["next_step"]
    assert qemus_of(home.path) == []
    return found


def test_whatever_is_killed_the_state_is_clear_and_nothing_runs_on(home: Home) -> None:
    home.create("-n", "hit")
    home.capsem("exec", "hit", "--", "sh", "-c", "echo disk >/root/d; sync")
    # QEMU, while it runs.
    (qemu,) = qemus_of(home.path)
    os.kill(qemu, signal.SIGKILL)
    until_gone(qemu)
    said = crashed(home, "hit")
    assert "QEMU ended with" in said["problem"]
    assert "crashed" in answered(home, "list")[1]
    assert "machine.crashed" in types(said["log"])

    home.capsem("start", "hit")
    assert home.text("exec", "hit", "--", "cat", "/root/d") == "disk"
    (qemu,) = qemus_of(home.path)
    monitor = monitor_of(home, "hit")
    suspending = subprocess.Popen([*home_line(), "suspend", "hit"], env=home.env, stderr=subprocess.PIPE)
    directory = Path(home.info("hit")["directory"])
    until = time.monotonic() + 60
    while not (directory / "suspended.new").exists() and suspending.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.001)
    # The monitor, in the middle of it, or as soon as it is done: one or the other, never half of it.
    with contextlib.suppress(ProcessLookupError):
        os.kill(monitor, signal.SIGKILL)
    suspending.communicate(timeout=120)
    until_gone(monitor)
    until_gone(qemu)
    state = home.info("hit")["state"]
    assert state == ("suspended" if (directory / "suspended").exists() else "crashed")
    service = home.service()
    os.kill(service, signal.SIGKILL)
    until_gone(service)
    assert home.info("hit")["state"] == state
    assert not (directory / "suspended.new").exists()
    home.capsem("resume" if state == "suspended" else "start", "hit")
    assert home.text("exec", "hit", "--", "cat", "/root/d") == "disk"

    # A QEMU that does not answer when it is to be kept is ended in time, and that is said.
    (qemu,) = qemus_of(home.path)
    os.kill(qemu, signal.SIGSTOP)
    began = time.monotonic()
    code, said_then = answered(home, "suspend", "hit")
    assert code != 0
    assert "not suspended" in said_then
    assert time.monotonic() - began < 120
    assert "did not run on" in crashed(home, "hit")["problem"]
    assert not alive(qemu)
    home.capsem("start", "hit")

    # A QEMU that stands when it is to stop is ended all the same.
    (qemu,) = qemus_of(home.path)
    os.kill(qemu, signal.SIGSTOP)
    home.capsem("stop", "hit")
    assert home.info("hit")["state"] == "stopped"
    assert not alive(qemu)
    home.capsem("delete", "hit")
    assert not directory.exists()
    assert qemus_of(home.path) == []


@pytest.mark.needs("root")
def test_a_full_disk_suspends_nothing_and_loses_nothing(home: Home) -> None:
    sessions = home.path / "sessions"
    home.capsem("list")
    assert list(sessions.iterdir()) == []
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "full", sessions], check=True)
    try:
        home.create("-n", "full")
        home.capsem("exec", "full", "--", "sh", "-c", f"echo mem >/tmp/m; {COUNT}")
        directory = Path(home.info("full")["directory"])
        code, said = answered(home, "suspend", "full")
        assert code != 0
        assert "the machine is not suspended, it runs on: " in said
        assert f"the disk of {directory} is full (" in said
        assert "MB are free, and up to" in said
        assert "make room there: capsem disk" in said
        assert "Errno" not in said
        assert home.info("full")["state"] == "running"
        assert home.text("exec", "full", "--", "cat", "/tmp/m") == "mem"
        before = counted(home, "full")
        time.sleep(2)
        assert counted(home, "full") > before, "it runs on"
        assert not (directory / "suspended").exists()
        assert not (directory / "suspended.new").exists()
        assert "machine.suspend_failed" in types(home.info("full")["log"])
        home.capsem("delete", "--force", "full")
        assert list(sessions.iterdir()) == []
    finally:
        home.end()
        subprocess.run(["umount", "-l", sessions], check=True)
    assert qemus_of(home.path) == []


def test_a_machine_outlives_its_service(home: Home) -> None:
    """It runs on when the service has ended, idle or as it was told to, and the next one finds it."""
    home.create("-n", "on")
    try:
        service = home.service()
        os.kill(service, signal.SIGTERM)
        until_gone(service)
        assert home.text("exec", "on", "--", "hostname") == "on"
        assert home.service() != service
        assert home.info("on")["state"] == "running"
    finally:
        home.capsem("delete", "--force", "on")


def test_a_kernel_that_panics_ends_the_machine_and_its_disk_is_kept(home: Home) -> None:
    """A clone has nothing to start again from: it would stand there, and hold whoever waits for it."""
    home.build("stock", "stock")  # ours has nothing that a program could make panic
    home.capsem("create", "--image", "stock", "-n", "panics")
    home.capsem("exec", "panics", "--", "sh", "-c", "echo kept >/root/kept; sync")
    code, complaint = answered(
        home, "exec", "panics", "--", "sh", "-c", "echo c >/proc/sysrq-trigger && sleep 600"
    )
    assert code == 125, complaint
    until = time.monotonic() + 120
    while (found := home.info("panics"))["state"] == "running":
        assert time.monotonic() < until
        time.sleep(0.1)
    assert found["state"] == "crashed"
    assert found["problem"].startswith("its kernel started again")
    assert qemus_of(home.path) == []
    home.capsem("start", "panics")
    assert home.text("exec", "panics", "--", "cat", "/root/kept") == "kept"
    home.capsem("delete", "--force", "panics")
