"""Every system call that could change `keep.txt`, plant `.git/hooks/pre-commit` or read `secret`, by every alias.

Run inside as a script: `siblings.py NUMBERS`, where NUMBERS is JSON from names of system calls to numbers. Prints one
JSON object from what was tried to the result (negative: `-errno`). It proves nothing itself: the host looks.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from typing import Any

HERE = -100
W, RW, CREAT, TRUNC, TMPFILE = os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, 0o20200000
EMPTY, FOLLOW, EXCHANGE = 0x1000, 0x400, 2

NUMBERS: dict[str, int] = json.loads(sys.argv[1])
RESULTS: dict[str, int] = {}
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long


def call(name: str, *arguments: Any) -> int:
    """One raw system call; what is not a number is passed by address."""
    typed = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    result = int(LIBC.syscall(ctypes.c_long(NUMBERS[name]), *typed))
    return result if result >= 0 else -ctypes.get_errno()


def attempt(label: str, name: str, *arguments: Any) -> int:
    result = call(name, *arguments)
    RESULTS[f"{label}: {name}"] = result
    return result


def how(flags: int, resolve: int = 0, mode: int = 0) -> bytes:
    return struct.pack("QQQ", flags, mode, resolve)


def aliases(fd: int, pinned: int, directory: int) -> list[bytes]:
    """Names of `keep.txt`."""
    here, pid = os.getcwd().encode(), os.getpid()
    return [
        b"keep.txt",
        here + b"/keep.txt",
        b"./sub/../keep.txt",
        b"//" + here + b"//keep.txt",
        here + b"/./keep.txt",
        b"link",
        b"linkdir/keep.txt",
        b"/proc/self/cwd/keep.txt",
        b"/proc/self/root" + here + b"/keep.txt",
        b"/proc/thread-self/root" + here + b"/keep.txt",
        b"/proc/%d/cwd/keep.txt" % pid,
        b"/proc/1/root" + here + b"/keep.txt",
        b"/proc/1/cwd/keep.txt",
        b"/dev/fd/../cwd/keep.txt",
        b"/proc/self/fd/%d" % fd,
        b"/dev/fd/%d" % fd,
        b"/proc/self/fd/%d" % pinned,
        b"/proc/self/fd/%d/keep.txt" % directory,
        b"/proc/self/task/%d/fd/%d" % (pid, fd),
    ]


def by_alias(path: bytes) -> None:
    label = path.decode()
    attempt(label, "openat", HERE, path, W, 0)
    attempt(label + " (truncating)", "openat", HERE, path, TRUNC, 0)
    attempt(label, "openat2", HERE, path, how(RW), 24)
    attempt(label, "truncate", path, 0)
    attempt(label, "chmod", path, 0o777)
    attempt(label, "utimensat", HERE, path, 0, 0)
    attempt(label, "setxattr", path, b"user.x", b"1", 1, 0)
    attempt(label, "linkat", HERE, path, HERE, b"hard", FOLLOW)


def changing(fd: int, pinned: int, directory: int) -> None:
    keep = b"keep.txt"
    for resolve in (0x01, 0x02, 0x04, 0x08, 0x10):
        attempt(f"resolve {resolve:#x}", "openat2", directory, keep, how(RW, resolve), 24)
    attempt("in root", "openat2", directory, b"/keep.txt", how(RW, 0x10), 24)
    attempt("in root, upwards", "openat2", directory, b"/../../keep.txt", how(RW, 0x10), 24)
    for name, *arguments in [
        ("open", keep, W, 0),
        ("creat", keep, 0o600),
        ("unlink", keep),
        ("unlinkat", HERE, keep, 0),
        ("rename", keep, b"k2"),
        ("renameat", HERE, keep, HERE, b"k2"),
        ("renameat2", HERE, keep, HERE, b"mine", EXCHANGE),
        ("link", keep, b"hard"),
        ("linkat", fd, b"", HERE, b"hard", EMPTY),
        ("fchmod", fd, 0o777),
        ("fchmodat", HERE, keep, 0o777),
        ("fchmodat2", pinned, b"", 0o777, EMPTY),
        ("chown", keep, os.getuid(), os.getgid()),
        ("lchown", keep, os.getuid(), os.getgid()),
        ("fchown", fd, os.getuid(), os.getgid()),
        ("fchownat", fd, b"", os.getuid(), os.getgid(), EMPTY),
        ("utime", keep, 0),
        ("utimes", keep, 0),
        ("futimesat", HERE, keep, 0),
        ("utimensat", fd, 0, 0, 0),
        ("fsetxattr", fd, b"user.x", b"1", 1, 0),
        ("lsetxattr", keep, b"user.x", b"1", 1, 0),
        ("removexattr", keep, b"user.a"),
        ("lremovexattr", keep, b"user.a"),
        ("fremovexattr", fd, b"user.a"),
        ("ftruncate", fd, 0),
        ("symlink", b"x", keep),
        ("ioctl", fd, 0x40086602, struct.pack("Q", 0x40)),
        ("open_by_handle_at", directory, b"\0" * 16, RW),
        ("io_uring_setup", 1, 0),
    ]:
        attempt("keep", str(name), *arguments)
    attempt("onto keep", "rename", b"mine", keep)


def planting(directory: int) -> None:
    hook = b".git/hooks/pre-commit"
    attempt("hooks", "mkdir", b".git/hooks", 0o755)
    attempt("hook", "openat", HERE, hook, CREAT | W, 0o755)
    attempt("git away", "rename", b".git", b"old")
    attempt("git swapped", "renameat2", HERE, b".git", HERE, b"prepared", EXCHANGE)
    attempt("prepared hooks", "rename", b"prepared", b".git/hooks")
    attempt("link to hooks", "symlink", b"../prepared", b".git/hooks")
    attempt("no git", "rmdir", b".git")
    attempt("hooks as a node", "mknod", b".git/hooks", 0o100644, 0)
    attempt("the workspace away", "rename", os.getcwdb(), os.getcwdb() + b"2")
    unnamed = attempt("control: unnamed file", "openat", HERE, b".", TMPFILE | RW, 0o644)
    source = b"/proc/self/fd/%d" % unnamed
    attempt("unnamed onto keep", "linkat", HERE, source, HERE, b"keep.txt", FOLLOW)
    attempt("unnamed as hook", "linkat", HERE, source, HERE, hook, FOLLOW)
    attempt("control: unnamed gets a name", "linkat", HERE, source, HERE, b"named", FOLLOW)
    attempt("hook beneath", "openat2", directory, hook, how(CREAT | W, 0x08, 0o755), 24)


def reading() -> None:
    for path in (
        b"secret",
        b"/proc/self/cwd/secret",
        b"slink",
        b"secretdir/x",
        b"sdlink/x",
        b"secretdir/../secret",
    ):
        attempt(path.decode(), "openat", HERE, path, 0, 0)
        attempt(path.decode(), "open", path, 0, 0)
        attempt(path.decode(), "openat2", HERE, path, how(0), 24)
        pinned = call("openat", HERE, path, os.O_PATH, 0)
        attempt(path.decode() + " (pinned)", "openat", HERE, b"/proc/self/fd/%d" % pinned, 0, 0)
    attempt("secret away", "rename", b"secret", b"s2")
    attempt("secret twice", "link", b"secret", b"s3")
    attempt("secret directory away", "rename", b"secretdir", b"sd2")
    attempt("secret directory swapped", "renameat2", HERE, b"secretdir", HERE, b"prepared", EXCHANGE)
    os.chdir("secretdir")
    attempt("from within", "openat", HERE, b"x", 0, 0)
    os.chdir("..")


def monitor() -> None:
    for entry in (b"mem", b"maps", b"fd/0", b"environ", b"task/1/mem"):
        attempt(
            "/proc/1/" + entry.decode(), "openat", HERE, b"/proc/1/" + entry, RW if b"mem" in entry else 0, 0
        )
    attempt("kernel setting", "openat", HERE, b"/proc/sys/kernel/core_pattern", W, 0)


def controls() -> None:
    attempt("control", "mkdir", b"newdir", 0o755)
    attempt("control", "openat", HERE, b"new", CREAT | W, 0o644)
    attempt("control", "openat2", HERE, b"new2", how(CREAT | W, 0, 0o644), 24)
    attempt("control", "chmod", b"new", 0o600)
    attempt("control", "rename", b"new", b"new3")
    attempt("control", "link", b"new3", b"new4")
    attempt("control", "utimensat", HERE, b"new3", 0, 0)
    attempt("control", "truncate", b"new3", 5)
    attempt("control", "open", b"keep.txt", 0, 0)
    attempt("control", "unlink", b"new4")


if __name__ == "__main__":
    readable = os.open("keep.txt", os.O_RDONLY)
    pathlike = os.open("keep.txt", os.O_PATH)
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    for alias in aliases(readable, pathlike, here):
        by_alias(alias)
    changing(readable, pathlike, here)
    planting(here)
    reading()
    monitor()
    controls()
    print(json.dumps(RESULTS))
