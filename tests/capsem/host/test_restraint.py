from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from capsem.host import restraint
from capsem.process import STARTS_SANDBOXES

TRIES = """
import ctypes, json, os, platform, subprocess, sys
from capsem.host.restraint import restrain
from capsem.process import STARTS_SANDBOXES
from capsule.sandbox.syscalls import groups, numbers
groups(), numbers()
if len(sys.argv) > 2:
    # Who may not read this interpreter any more once it is somebody else has it already.
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
if sys.argv[1] == "held":
    restrain(STARTS_SANDBOXES)
libc = ctypes.CDLL(None, use_errno=True)
column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
def tried(name, *arguments):
    done = libc.syscall(numbers()[name][column], *map(ctypes.c_long, arguments))
    return "done" if done >= 0 else os.strerror(ctypes.get_errno())
found = {
    "keyctl": tried("keyctl", 0, -3, 1),
    "io_uring_setup": tried("io_uring_setup", 0, 0),
    "unshare": tried("unshare", 0),
    "status": dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line),
}
if len(sys.argv) > 2:
    found["setuid"] = subprocess.run([sys.argv[2], "-u"], capture_output=True, text=True).stdout.strip()
print(json.dumps(found))
"""


def tried(how: str, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", TRIES, how, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_what_is_held_has_no_capability_and_not_every_call() -> None:
    free, held = tried("free"), tried("held")
    if free["keyctl"] != "done":
        pytest.skip(f"INCONCLUSIVE: without restraint, too: {free['keyctl']}")
    assert held["keyctl"] == "Operation not permitted"
    assert held["io_uring_setup"] == "Function not implemented"
    assert held["unshare"] == "done", "sandboxes can be made"
    status = held["status"]
    assert isinstance(status, dict)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    keeps = 0
    if os.geteuid() == 0:
        keeps = 1 << restraint.NUMBERS["CAP_SETFCAP"]
        if restraint.forbidden():
            keeps |= 1 << restraint.NUMBERS["CAP_SYS_ADMIN"]
        assert int(status["CapBnd"], 16) & ~keeps == 0
    assert int(status["CapPrm"], 16) & ~keeps == int(status["CapEff"], 16) & ~keeps == 0


@pytest.mark.needs("root")
def test_nobody_becomes_root_by_a_program_that_would_make_it_so() -> None:
    program = shutil.which("id")
    assert program is not None
    place = Path("/usr/local/bin") / f"capsem-test-id-{os.getpid()}"
    shutil.copy(program, place)
    place.chmod(0o4755)
    try:
        if tried("free", str(place))["setuid"] != "0":
            pytest.skip("INCONCLUSIVE: this file system makes nobody another user")
        assert tried("held", str(place))["setuid"] == "65534"
    finally:
        place.unlink()


def test_a_host_that_forbids_user_namespaces_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "unprivileged_userns_clone"
    monkeypatch.setattr(restraint, "FORBIDS", ((place, "0"),))
    assert not restraint.forbidden()
    place.write_text("1\n")
    assert not restraint.forbidden()
    place.write_text("0\n")
    assert restraint.forbidden()


def test_what_is_declared_is_known() -> None:
    assert set(STARTS_SANDBOXES.root_keeps) <= restraint.NUMBERS.keys()
