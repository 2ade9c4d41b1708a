"""Names are created for the command with its own file mode creation mask, whoever set which when.

As long as nobody sets another mask than the first, none is looked up; each case here has one process that sets one and
another that must not feel it.
"""

from __future__ import annotations

import platform
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from capsule.sandbox.syscalls import numbers

PYTHON = str(Path(sys.executable).resolve())

pytestmark = pytest.mark.needs("userns", "landlock", "seccomp-notify")

MAKE = """\
import ctypes, os, sys, threading
def make(name, how=os.open):
    if how is os.open:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o666))
    else:
        how(name)
def child(act):
    pid = os.fork()
    if pid == 0:
        act()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
raw = ctypes.CDLL(None, use_errno=True).syscall
"""

CASES = {
    "nobody sets one": ("make('a')", {"a": 0o644}),
    "set to what it is": ("os.umask(0o022); make('a')", {"a": 0o644}),
    "set to another": ("os.umask(0o077); make('a')", {"a": 0o600}),
    "set to another and back": (
        "os.umask(0o077); make('a'); os.umask(0o022); make('b')",
        {"a": 0o600, "b": 0o644},
    ),
    "a child sets one, its parent does not": (
        "make('a'); child(lambda: (os.umask(0), make('b'))); make('c')",
        {"a": 0o644, "b": 0o666, "c": 0o644},
    ),
    "a child inherits one that its parent then takes back": (
        "os.umask(0o077); r, w = os.pipe(); pid = os.fork()\n"
        "if pid == 0:\n    os.read(r, 1); make('a'); os._exit(0)\n"
        "os.umask(0o022); make('b'); os.write(w, b'x'); os.waitpid(pid, 0)",
        {"a": 0o600, "b": 0o644},
    ),
    "threads share one": (
        "t = threading.Thread(target=lambda: os.umask(0o027)); t.start(); t.join(); make('a')",
        {"a": 0o640},
    ),
    "only the lowest bits count": (
        "raw(ctypes.c_long(UMASK), ctypes.c_long(0o077 | 1 << 40 | 0o7000)); make('a')",
        {"a": 0o600},
    ),
    "bits above are no other mask": (
        "raw(ctypes.c_long(UMASK), ctypes.c_long(0o022 | 1 << 40 | 0o7000)); make('a')",
        {"a": 0o644},
    ),
    "a program that is started inherits one": (
        "os.umask(0o007); os.system('umask; : > a'); make('b')",
        {"a": 0o660, "b": 0o660},
    ),
    "directories and pipes": (
        "os.umask(0o027); make('a', os.mkfifo); make('b', os.mkdir)",
        {"a": 0o640, "b": 0o750},
    ),
}


@pytest.mark.parametrize("audit", ["run", "writes"])
@pytest.mark.parametrize(("script", "modes"), CASES.values(), ids=CASES.keys())
def test_a_name_is_created_with_the_mask_of_who_asks(
    capsule_binary: Path, workspace: Path, audit: str, script: str, modes: dict[str, int]
) -> None:
    number = numbers()["umask"][{"x86_64": 0, "aarch64": 1}[platform.machine()]]
    (workspace / "capsule.yaml").write_text(f"version: 1\nextends: [workspace]\naudit: {audit}\n")
    begin = f"{MAKE}UMASK = {number}\n"
    command = [
        str(capsule_binary),
        "run",
        "--policy",
        "capsule.yaml",
        "--",
        PYTHON,
        "-I",
        "-c",
        begin + script,
    ]
    subprocess.run(command, cwd=workspace, check=True, timeout=120, umask=0o022)
    made = {name: stat.S_IMODE((workspace / name).stat().st_mode) for name in modes}
    assert made == modes
