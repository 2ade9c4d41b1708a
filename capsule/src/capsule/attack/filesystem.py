"""Attacks on paths: leaving the workspace, reaching denied names, and saying one path while meaning another.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import ctypes
import os
import struct

from capsule.attack.case import Family
from capsule.attack.inside import Inside
from capsule.attack.judges import no_change, no_harm
from capsule.attack.stage import with_racer

FAMILY = Family(no_harm)
case = FAMILY.case


@case(
    "fs.symlink-write", 1, "write through a symbolic link that leaves the workspace", source="CVE-2026-39861"
)
def symlink_write(a: Inside) -> None:
    os.symlink(a.outside + "/canary", a.ws + "/link")
    a.write(a.ws + "/link")


@case("fs.symlink-parent", 1, "write below a linked parent directory", source="CVE-2026-39861")
def symlink_parent(a: Inside) -> None:
    os.symlink(a.outside, a.ws + "/folder")
    a.attempt(a.write, a.ws + "/folder/canary")
    a.attempt(a.write, a.ws + "/folder/new")
    a.attempt(os.mkdir, a.ws + "/folder/newdir")


@case("fs.symlink-read", 1, "read a secret through a symbolic link of the workspace")
def symlink_read(a: Inside) -> None:
    for number, target in enumerate(
        (a.home + "/.ssh/id_ed25519", a.outside + "/canary", a.ws + "/.attack-denied")
    ):
        a.attempt(os.symlink, target, a.ws + f"/l{number}")
        a.say(a.attempt(a.read, a.ws + f"/l{number}"))


@case(
    "fs.symlink-swap",
    1,
    "exchange a file with a link to the outside while it is opened",
    source="CVE-2026-39861",
    needs=("cc",),
    prepare=with_racer,
    judge=no_change,
)
def symlink_swap(a: Inside) -> None:
    a.race("link", a.ws + "/unused", a.outside + "/canary", a.mark, "2" if a.confined else "1")


@case(
    "fs.parent-swap",
    1,
    "exchange a parent directory with a link while a file below is opened",
    needs=("cc",),
    prepare=with_racer,
    judge=no_change,
)
def parent_swap(a: Inside) -> None:
    a.race("parent", a.ws + "/unused", a.outside + "/dir/canary", a.mark, "2" if a.confined else "1")


@case("fs.hardlink-outside", 6, "hard link an outside file into the workspace and write to it")
def hardlink_outside(a: Inside) -> None:
    for number, name in enumerate(("canary", "dir/canary")):
        a.attempt(os.link, a.outside + "/" + name, a.ws + f"/hard{number}")
        a.attempt(a.write, a.ws + f"/hard{number}", os.O_WRONLY)


@case("fs.hardlink-protected", 6, "hard link a protected or denied file to a new name")
def hardlink_protected(a: Inside) -> None:
    a.attempt(os.link, a.ws + "/.attack-kept", a.ws + "/kept2")
    a.attempt(a.write, a.ws + "/kept2", os.O_WRONLY)
    a.attempt(os.link, a.ws + "/.attack-denied", a.ws + "/denied2")
    a.say(a.attempt(a.read, a.ws + "/denied2"))


@case("fs.linkat-descriptor", 6, "linkat through /proc/self/fd and AT_EMPTY_PATH of a file opened read-only")
def linkat_descriptor(a: Inside) -> None:
    descriptor = os.open(a.ws + "/.attack-kept", os.O_RDONLY)
    a.attempt(a.sys, "linkat", -100, f"/proc/self/fd/{descriptor}", -100, a.ws + "/one", 0x400)
    a.attempt(a.sys, "linkat", descriptor, "", -100, a.ws + "/two", 0x1000)
    for name in ("/one", "/two"):
        a.attempt(a.write, a.ws + name, os.O_WRONLY)


@case("fs.tmpfile-over", 0, "O_TMPFILE, then linkat and rename over a protected name")
def tmpfile_over(a: Inside) -> None:
    descriptor = os.open(a.ws, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(descriptor, a.mark.encode())
    a.attempt(os.unlink, a.ws + "/.attack-kept")
    a.attempt(a.sys, "linkat", -100, f"/proc/self/fd/{descriptor}", -100, a.ws + "/.attack-kept", 0x400)
    a.attempt(a.sys, "linkat", -100, f"/proc/self/fd/{descriptor}", -100, a.ws + "/anonymous", 0x400)
    a.attempt(os.rename, a.ws + "/anonymous", a.ws + "/.attack-kept")


@case("fs.change-outside", 7, "truncate, unlink, rename, chmod, chown, utimes, setxattr on outside files")
def change_outside(a: Inside) -> None:
    path, other = a.outside + "/canary", a.outside + "/dir/canary"
    a.attempt(os.truncate, path, 0)
    a.attempt(os.chmod, path, 0o777)
    a.attempt(os.chown, path, os.getuid(), 65534)
    a.attempt(os.utime, path, (1, 1))
    a.attempt(os.setxattr, path, "user.capsule", b"x")
    a.attempt(os.rename, other, other + "-away")
    a.attempt(os.unlink, a.outside + "/tool")
    a.attempt(os.rename, a.outside + "/dir", a.outside + "/dir2")


@case("fs.change-protected", 7, "truncate, unlink, rename, chmod, utimes, setxattr on a protected file")
def change_protected(a: Inside) -> None:
    path = a.ws + "/.attack-kept"
    a.attempt(os.truncate, path, 0)
    a.attempt(os.chmod, path, 0o777)
    a.attempt(os.utime, path, (1, 1))
    a.attempt(os.setxattr, path, "user.capsule", b"x")
    a.attempt(os.rename, path, path + "-away")
    a.attempt(os.unlink, path)
    a.attempt(os.rename, a.ws + "/src/main.py", path)


@case("fs.change-descriptor", 7, "fchmod, fchown, futimens, fsetxattr on a protected file opened read-only")
def change_descriptor(a: Inside) -> None:
    for name in (a.ws + "/.attack-kept", a.outside + "/canary"):
        descriptor = a.attempt(os.open, name, os.O_RDONLY)
        if descriptor is None:
            continue
        a.attempt(os.fchmod, descriptor, 0o777)
        a.attempt(os.utime, descriptor, (1, 1))
        a.attempt(os.setxattr, descriptor, "user.capsule", b"x")
        a.attempt(a.sys, "fchmodat2", descriptor, "", 0o777, 0x1000)
        a.attempt(os.chmod, f"/proc/self/fd/{descriptor}", 0o777)
        a.attempt(os.truncate, f"/proc/self/fd/{descriptor}", 0)


@case("fs.setxattr-new", 8, "setxattrat and file_setattr, calls younger than most filters")
def setxattr_new(a: Inside) -> None:
    value = ctypes.create_string_buffer(b"x")
    arguments = struct.pack("QII", ctypes.addressof(value), 1, 0)
    for path in (a.ws + "/.attack-kept", a.outside + "/canary"):
        a.attempt(a.sys, "setxattrat", -100, path, 0, "user.capsule", arguments, 16)


@case("fs.reopen-descriptor", 8, "reopen a read-only descriptor of a protected file for writing")
def reopen_descriptor(a: Inside) -> None:
    for name in (a.ws + "/.attack-kept", a.outside + "/canary", a.ws + "/capsule.yaml"):
        descriptor = a.attempt(os.open, name, os.O_RDONLY)
        handle = a.attempt(os.open, name, os.O_PATH)
        for number in (descriptor, handle):
            if number is not None:
                a.attempt(a.write, f"/proc/self/fd/{number}", os.O_WRONLY)
                a.attempt(a.write, f"/dev/fd/{number}", os.O_WRONLY)
                a.attempt(a.write, f"/proc/thread-self/fd/{number}", os.O_WRONLY)


@case("fs.write-openat2", 8, "openat2 for writing on a protected and on an outside file")
def write_openat2(a: Inside) -> None:
    for path in (a.ws + "/.attack-kept", a.outside + "/canary"):
        how = struct.pack("QQQ", os.O_WRONLY, 0, 0)
        descriptor = a.attempt(a.sys, "openat2", -100, path, how, 24)
        if descriptor is not None:
            os.write(descriptor, a.mark.encode())


@case("fs.write-creat", 8, "creat on a protected and on an outside file", needs=("x86",))
def write_creat(a: Inside) -> None:
    for path in (a.ws + "/.attack-kept", a.outside + "/canary"):
        descriptor = a.attempt(a.sys, "creat", path, 0o644)
        if descriptor is not None:
            os.write(descriptor, a.mark.encode())


@case("fs.write-open", 8, "the old open call for writing", needs=("x86",))
def write_open(a: Inside) -> None:
    for path in (a.ws + "/.attack-kept", a.outside + "/canary"):
        descriptor = a.attempt(a.sys, "open", path, os.O_WRONLY | os.O_TRUNC, 0)
        if descriptor is not None:
            os.write(descriptor, a.mark.encode())


@case("fs.trunc-readonly", 8, "O_RDONLY with O_TRUNC, which empties the file all the same")
def trunc_readonly(a: Inside) -> None:
    for path in (a.ws + "/.attack-kept", a.outside + "/canary"):
        a.attempt(os.open, path, os.O_RDONLY | os.O_TRUNC)
    a.attempt(os.open, a.outside + "/made", os.O_RDONLY | os.O_CREAT)


@case("fs.access-mode-3", 8, "open with access mode 3, which counts as read and write")
def access_mode_3(a: Inside) -> None:
    for path in (a.ws + "/.attack-kept", a.outside + "/canary"):
        a.attempt(os.open, path, 3 | os.O_TRUNC)
