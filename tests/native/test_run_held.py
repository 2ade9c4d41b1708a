"""`capsule run` against a command that holds on: to the log's lock, the monitor's limits, its terminal, the home."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(240)]
# Generous: what is tested never ends without its fix.
SOON = 60
DEAF = "import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\n"


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace)


def python(text: str) -> list[str]:
    return ["/usr/bin/python3", "-I", "-c", text]


class TestTheLogsLock:
    HOLD = "import fcntl, time\nlog = open('capsule.log')\nfcntl.flock(log, fcntl.LOCK_EX)\nprint('held', flush=True)\n"

    def test_the_deadline_and_the_record_do_not_wait_for_it(self, capsule: Capsule) -> None:
        text = DEAF + self.HOLD + "open('/etc/planted', 'w')\n"
        text = text.replace("open('/etc", "import contextlib\nwith contextlib.suppress(OSError): open('/etc")
        ran = capsule.run(*python(text + "time.sleep(600)"), options=["--timeout", "3"], timeout=SOON)
        assert "held" in ran.out, "the control: it has the lock"
        assert ran.exit["cause"] == "timeout"
        assert [denial["target"] for denial in ran.report["denials"]] == ["/etc/planted"]
        done = capsule.tell([str(capsule.binary), "log", "--json"], SOON)
        assert "/etc/planted" in done.stdout

    def test_others_write_and_verify_meanwhile(self, capsule: Capsule) -> None:
        held = subprocess.Popen(
            capsule.command(*python(self.HOLD + "input()")),
            cwd=capsule.workspace,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert held.stdout
        assert held.stdout.readline() == "held\n"
        assert capsule.run("true", timeout=SOON).code == 0
        assert capsule.tell([str(capsule.binary), "verify"], SOON).returncode == 0
        held.communicate("\n", timeout=SOON)
        assert held.returncode == 0

    def test_a_lease_is_not_to_be_had(self, capsule: Capsule) -> None:
        text = "import fcntl\nfcntl.fcntl(open('capsule.log'), fcntl.F_SETLEASE, fcntl.F_RDLCK)"
        ran = capsule.run(*python(text))
        assert ran.code == 1
        assert "Operation not permitted" in ran.err
        assert "F_SETLEASE" not in ran.out
        fcntl.flock(os.open(capsule.workspace / "capsule.log", os.O_RDONLY), fcntl.LOCK_EX)


class TestTheMonitor:
    @pytest.mark.parametrize(
        "act",
        [
            "import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))",
            "import os; os.setpriority(os.PRIO_PROCESS, 1, 19)",
            "import os; os.setpriority(os.PRIO_USER, 0, 19)",
            "import os; os.setpriority(os.PRIO_PGRP, 1, 19)",
            "import os; os.sched_setaffinity(1, {0})",
            "import os; os.sched_setscheduler(1, os.SCHED_BATCH, os.sched_param(0))",
        ],
    )
    def test_its_limits_and_its_turn_are_nobody_else_s(self, capsule: Capsule, act: str) -> None:
        ran = capsule.run(*python(act), timeout=SOON)
        assert (ran.code, ran.exit["cause"]) == (1, "exited")
        assert "PermissionError" in ran.err
        assert [denial["operation"] for denial in ran.report["denials"]] == ["syscall"]

    def test_the_command_may_use_what_its_caller_may(self, capsule: Capsule) -> None:
        """Although its first process was moved to another processor when it began."""
        may = os.sched_getaffinity(0)
        show = python("import os; print(sorted(os.sched_getaffinity(0)))")
        try:
            for allowed in (may, {min(may)}, {max(may)}):
                os.sched_setaffinity(0, allowed)
                assert capsule.run(*show).out == f"{sorted(allowed)}\n"
        finally:
            os.sched_setaffinity(0, may)

    def test_the_command_s_own_are_its_own(self, capsule: Capsule) -> None:
        text = """
import os, resource, subprocess, threading
resource.prlimit(0, resource.RLIMIT_NOFILE, (64, 64))
resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (60, 60))
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (60, 60)
assert resource.prlimit(1, resource.RLIMIT_NOFILE)
os.setpriority(os.PRIO_PROCESS, 0, max(3, os.getpriority(os.PRIO_PROCESS, 0)))
os.sched_setaffinity(0, os.sched_getaffinity(0))
child = subprocess.Popen(["sleep", "60"])
resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (32, 32))
assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (32, 32)
lower = max(7, os.getpriority(os.PRIO_PROCESS, child.pid))
os.setpriority(os.PRIO_PROCESS, child.pid, lower)
assert os.getpriority(os.PRIO_PROCESS, child.pid) == lower
os.sched_setscheduler(child.pid, os.SCHED_BATCH, os.sched_param(0))
thread = threading.Event()
other = threading.Thread(target=thread.wait)
other.start()
os.sched_setaffinity(other.native_id, os.sched_getaffinity(0))
thread.set()
child.kill()
print("done")
"""
        ran = capsule.run(*python(text), timeout=SOON)
        assert (ran.out, ran.report["denials"]) == ("done\n", []), ran.err


@pytest.mark.needs("pty")
class TestInsisting:
    def typed(
        self, capsule: Capsule, text: str, ready: bytes, keys: int, wait_for: bytes = b""
    ) -> int | None:
        """The exit code after ^C was typed so often; None when it lives."""
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(capsule.workspace)
            words = capsule.command("/usr/bin/python3", "-I", "-c", text)
            os.execv(words[0], words)
        seen, until, code = b"", time.monotonic() + SOON, None
        while ready not in seen and time.monotonic() < until:
            seen += os.read(master, 4096)
        for _ in range(keys):
            os.write(master, b"\x03")
            time.sleep(0.1)
            before = seen.count(wait_for)
            while wait_for and seen.count(wait_for) == before and time.monotonic() < until:
                seen += os.read(master, 4096)
        until = time.monotonic() + (4 if wait_for else SOON)
        while time.monotonic() < until and code is None:
            ended, status = os.waitpid(pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else None
            time.sleep(0.05)
        if code is None:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        os.close(master)
        return code

    def test_three_keys_end_who_ignores_them(self, capsule: Capsule) -> None:
        text = DEAF + "import time\nprint('here', flush=True)\ntime.sleep(600)"
        assert self.typed(capsule, text, b"here", 3) == 128 + signal.SIGINT

    def test_who_answers_each_is_left_alone(self, capsule: Capsule) -> None:
        text = (
            "import os, signal, time\n"
            "signal.signal(2, lambda *_: os.write(1, b'heard'))\n"
            "os.write(1, b'here')\nwhile True: time.sleep(1)"
        )
        assert self.typed(capsule, text, b"here", 5, b"heard") is None


class TestWhereItStarts:
    @pytest.mark.parametrize("place", ["/", "/etc", "home", "above"])
    def test_home_and_the_system_are_no_workspace(self, capsule: Capsule, home: Path, place: str) -> None:
        where = {"home": home, "above": home.parent}.get(place, Path(place))
        words = [str(capsule.binary), "run", "--log", str(capsule.workspace / "x.log"), "--", "true"]
        done = subprocess.run(words, cwd=where, capture_output=True, text=True, timeout=SOON, check=False)
        assert done.returncode == 125
        assert "cd to a project, or name a policy" in done.stderr

    def test_who_names_the_policy_means_it(self, capsule: Capsule, home: Path) -> None:
        words = [
            str(capsule.binary),
            "run",
            "--policy",
            "workspace",
            "--log",
            str(home / "x.log"),
            "--",
            "true",
        ]
        done = subprocess.run(words, cwd=home, capture_output=True, text=True, timeout=SOON, check=False)
        assert done.returncode == 0, done.stderr
