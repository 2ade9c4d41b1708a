"""Probes that change the process that makes them: each runs in an interpreter of its own, as text.

`python3 -I -c <this file> NAME` tries one thing for real and prints `{"ok": …, "at": …, "errno": …}`.
Refused: guessing by version. Nothing outside the child is changed.

    python3 -I -c "$(cat child.py)" landlock
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import sys
import tempfile
import time

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
NEWNS, NEWUSER, NEWPID, NEWNET, NEWIPC, NEWUTS = (
    0x20000,
    0x10000000,
    0x20000000,
    0x40000000,
    0x8000000,
    0x4000000,
)
X86 = platform.machine() == "x86_64"
SECCOMP, CAPSET = (317, 126) if X86 else (277, 91)


class Stopped(Exception):  # noqa: N818 — not an error of ours: the answer to the question
    """The host said no, at a step with a name."""

    def __init__(self, at: str, code: int) -> None:
        super().__init__(at)
        self.at, self.code = at, code


def must(at: str, result: int) -> int:
    """The result of a C call, or `Stopped` with its errno."""
    if result < 0:
        raise Stopped(at, ctypes.get_errno())
    return result


def into_userns(flags: int = 0) -> None:
    """Be root of a user namespace of our own."""
    uid, gid = os.getuid(), os.getgid()
    must("unshare", LIBC.unshare(NEWUSER | flags))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        try:
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
        except OSError as refusal:
            raise Stopped(name, refusal.errno or 0) from refusal


def namespaces() -> None:
    """User, mount, IPC, UTS and PID namespaces."""
    into_userns(NEWNS | NEWIPC | NEWUTS | NEWPID)


def mounts() -> None:
    """A read-only view, a private tmpfs and a new /proc, as a run makes them."""
    into_userns(NEWNS | NEWPID | NEWIPC)
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        steps = {1: "private", 2: "tmpfs", 3: "proc", 4: "read-only"}
        if code:
            raise Stopped(steps.get(code, "mount"), errno.EPERM)
        return
    made = (
        (b"none", b"/", None, 0x4000 | 1 << 18),
        (b"tmpfs", b"/tmp", b"tmpfs", 6),
        (b"proc", b"/proc", b"proc", 14),
    )
    for step, (source, target, kind, flags) in enumerate(made, 1):
        if LIBC.mount(source, target, kind, flags, None):
            os._exit(step)
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", 1, 0, 0, 0))
    if LIBC.syscall(442, -100, b"/", 0x8000, attributes, 32):
        os._exit(4)
    os._exit(0)


def network() -> None:
    """An empty network namespace in which loopback works and nothing else does."""
    into_userns(NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
        except OSError as refusal:
            raise Stopped("loopback", refusal.errno or 0) from refusal
        try:
            one.connect(("192.0.2.1", 9))
        except OSError as refusal:
            if refusal.errno == errno.ENETUNREACH:
                return
            raise Stopped("isolation", refusal.errno or 0) from refusal
    raise Stopped("isolation", 0)


def landlock() -> None:
    """A ruleset that refuses reading, tried on a file."""
    with tempfile.NamedTemporaryFile() as file:
        attribute = ctypes.create_string_buffer(struct.pack("Q", 1 << 2))
        ruleset = must("create_ruleset", LIBC.syscall(444, attribute, 8, 0))
        must("no_new_privs", LIBC.prctl(38, 1, 0, 0, 0))
        must("restrict_self", LIBC.syscall(446, ruleset, 0))
        try:
            os.close(os.open(file.name, os.O_RDONLY))
        except PermissionError:
            return
        raise Stopped("enforcement", 0)


def landlock_abi() -> int:
    """The version the kernel answers with."""
    return must("version", LIBC.syscall(444, None, 0, 1))


def _filter(action: int, number: int) -> "ctypes.Array[ctypes.c_char]":
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, action), (0x06, 0, 0, 0x7FFF0000)]
    text = b"".join(struct.pack("HBBI", *line) for line in code)
    _filter.kept = ctypes.create_string_buffer(text)  # type: ignore[attr-defined]
    return ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(code), ctypes.addressof(_filter.kept))  # type: ignore[attr-defined]
    )


def seccomp() -> None:
    """A filter that refuses getppid, tried."""
    must("no_new_privs", LIBC.prctl(38, 1, 0, 0, 0))
    number = 110 if X86 else 173
    must("filter", LIBC.syscall(SECCOMP, 1, 0, _filter(0x00050000 | errno.EPERM, number)))
    if LIBC.syscall(number) != -1:
        raise Stopped("enforcement", 0)


def notify() -> None:
    """A listener fetched from another process, and one notification answered with a descriptor."""
    ready, told = os.pipe()
    number = 110 if X86 else 173
    child = os.fork()
    if child == 0:
        LIBC.prctl(38, 1, 0, 0, 0)
        listener = LIBC.syscall(SECCOMP, 1, 8 | 32, _filter(0x7FC00000, number))
        os.write(told, struct.pack("ii", listener, ctypes.get_errno() if listener < 0 else 0))
        if listener >= 0:
            os._exit(0 if LIBC.syscall(number) >= 0 else 1)
        os._exit(2)
    listener, code = struct.unpack("ii", os.read(ready, 8))
    try:
        if listener < 0:
            raise Stopped("listener", code)
        handle = must("pidfd_open", LIBC.syscall(434, child, 0))
        ours = must("pidfd_getfd", LIBC.syscall(438, handle, listener, 0))
        notification = ctypes.create_string_buffer(80)
        must("receive", LIBC.ioctl(ours, ctypes.c_ulong(0xC0502100), notification))
        identity = struct.unpack_from("Q", notification.raw)[0]
        # struct seccomp_notif_addfd: id, flags (SEND), srcfd, newfd, newfd_flags.
        give = ctypes.create_string_buffer(struct.pack("QIIII", identity, 2, ready, 0, 0))
        must("addfd", LIBC.ioctl(ours, ctypes.c_ulong(0x40182103), give))
    finally:
        time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def capabilities() -> None:
    """Give up every capability and the way back to them."""
    must("no_new_privs", LIBC.prctl(38, 1, 0, 0, 0))
    header = ctypes.create_string_buffer(struct.pack("II", 0x20080522, 0))
    must("capset", LIBC.syscall(CAPSET, header, ctypes.create_string_buffer(24)))
    with open("/proc/self/status") as file:
        facts = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    if int(facts["CapEff"], 16) or facts["NoNewPrivs"].strip() != "1":
        raise Stopped("enforcement", 0)


def tree_kill() -> None:
    """Kill a PID namespace's first process, and look whether a grandchild in a session of its own is gone."""
    into_userns(NEWPID)
    ready, told = os.pipe()
    first = os.fork()
    if first == 0:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(told, b"x")
                time.sleep(30)
            os._exit(0)
        time.sleep(30)
    os.close(told)
    os.read(ready, 1)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    # The pipe's last writer was the grandchild: end of file means that it is gone.
    flags = fcntl.fcntl(ready, fcntl.F_GETFL)
    fcntl.fcntl(ready, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    for _ in range(100):
        try:
            if os.read(ready, 1) == b"":
                return
        except BlockingIOError:
            time.sleep(0.01)
    raise Stopped("enforcement", 0)


def process_limit() -> None:
    """RLIMIT_NPROC inside a fresh user namespace counts that namespace alone."""
    import resource

    into_userns(NEWPID)
    resource.setrlimit(resource.RLIMIT_NPROC, (8, 8))
    made = []
    for _ in range(24):
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            time.sleep(5)
            os._exit(0)
        made.append(child)
    # The namespace's first process ends only when all others were waited for: it comes last.
    for child in reversed(made):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not made or len(made) >= 24:
        raise Stopped("enforcement" if made else "fork", 0)


def main(name: str) -> None:
    """Run one probe and print its answer."""
    answer = {"ok": True, "at": "", "errno": 0, "value": 0}
    try:
        value = globals()[name]()
        answer["value"] = value or 0
    except Stopped as stop:
        answer.update(ok=False, at=stop.at, errno=stop.code)
    except OSError as refusal:
        answer.update(ok=False, at=type(refusal).__name__, errno=refusal.errno or 0)
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)


main(sys.argv[1])
