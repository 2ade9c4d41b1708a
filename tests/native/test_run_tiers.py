"""`capsule run` as another user, and where the host refuses user namespaces: less is enforced, and it is said."""

from __future__ import annotations

import pwd
import sys
from pathlib import Path

import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]

# A user namespace in which no further one can be made, as on a host that forbids them.
WITHOUT = """
import ctypes, os, sys
uid, gid = os.getuid(), os.getgid()
assert ctypes.CDLL(None).unshare(0x10000000) == 0
for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
os.execvp(sys.argv[1], sys.argv[1:])
"""
DEGRADED = ["--allow-degraded", "namespaces", "--allow-degraded", "network"]


@pytest.fixture
def confined(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace, before=(sys.executable, "-c", WITHOUT))


class TestWithoutNamespaces:
    def test_nothing_runs_unless_it_was_said(self, confined: Capsule) -> None:
        for options in ([], DEGRADED[:2], DEGRADED[2:]):
            ran = confined.run("touch", "made", options=options)
            assert (ran.code, ran.exit["cause"]) == (125, "refused")
            assert "--allow-degraded" in ran.exit["reason"]
        assert not (confined.workspace / "made").exists()

    def test_what_is_left_is_enforced_and_recorded(
        self, confined: Capsule, home: Path, tmp_path: Path
    ) -> None:
        script = f"echo in > inside; echo out > {tmp_path}/outside; cat {home}/.ssh/id_ed25519; ls -A {home}; exit 6"
        ran = confined.run("sh", "-c", script, options=DEGRADED)
        assert ran.code == 6, ran.err
        assert ran.report["enforced"]["tier"] == "confined"
        assert ran.report["enforced"]["degraded"] == ["namespaces", "network"]
        assert (confined.workspace / "inside").read_text() == "in\n"
        assert not (tmp_path / "outside").exists()
        assert "DECOY" not in ran.out
        assert ".ssh" not in ran.out

    def test_the_log_is_kept_there_too(self, confined: Capsule) -> None:
        confined.run("sh", "-c", "echo x >> capsule.log; rm -f capsule.log", options=DEGRADED)
        assert "x" not in (confined.workspace / "capsule.log").read_text().splitlines()

    def test_no_socket_reaches_the_network(self, confined: Capsule) -> None:
        script = "import socket; socket.socket()"
        ran = confined.run("/usr/bin/python3", "-c", script, options=DEGRADED)
        assert ran.code == 1
        assert "not permitted" in ran.err

    def test_a_policy_that_requires_them_cannot_be_waived(self, confined: Capsule) -> None:
        options = [*confined.policy("require: [namespaces]\n"), *DEGRADED]
        ran = confined.run("touch", "made", options=options)
        assert ran.code == 125
        assert "requires" in ran.exit["reason"]


class TestAnOrdinaryUser:
    def test_gets_the_full_tier(self, as_ordinary_user: Capsule, ordinary_user: pwd.struct_passwd) -> None:
        ran = as_ordinary_user.run("sh", "-c", "id -u; echo made > file; cat ~/secret; touch /etc/x; exit 3")
        assert ran.code == 3, ran.err
        assert ran.report["enforced"]["tier"] == "full"
        assert ran.out == f"{ordinary_user.pw_uid}\n"
        assert (as_ordinary_user.workspace / "file").stat().st_uid == ordinary_user.pw_uid
        assert "DECOY" not in ran.out + ran.err
