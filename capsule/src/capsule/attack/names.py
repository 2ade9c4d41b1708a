"""Attacks on names: a denied or protected name reached under another, moved, or changed under way.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time

from capsule.attack.case import Family
from capsule.attack.inside import Inside
from capsule.attack.judges import no_change, no_harm, no_leak
from capsule.attack.stage import Stage, with_racer

FAMILY = Family(no_harm)
case = FAMILY.case


@case(
    "fs.protect-swap",
    1,
    "exchange a file with a link to a protected name while it is opened",
    needs=("cc",),
    prepare=with_racer,
    judge=no_change,
)
def protect_swap(a: Inside) -> None:
    a.race("link", a.ws + "/unused", a.ws + "/.attack-kept", a.mark, "2" if a.confined else "1")


@case(
    "fs.toctou-write",
    11,
    "change the path in memory while an open for writing is decided",
    source="seccomp_unotify(2)",
    needs=("cc",),
    prepare=with_racer,
    judge=no_change,
)
def toctou_write(a: Inside) -> None:
    a.race("text", a.ws + "/.attack-work", a.ws + "/.attack-kept", a.mark, "2" if a.confined else "1")


@case(
    "fs.toctou-read",
    11,
    "change the path in memory while an open for reading is decided",
    source="seccomp_unotify(2)",
    needs=("cc",),
    prepare=with_racer,
    judge=no_leak,
)
def toctou_read(a: Inside) -> None:
    a.write(a.ws + "/.attack-public")
    a.race("read", a.ws + "/.attack-public", a.ws + "/.attack-denied", "-", "2" if a.confined else "1")


@case("fs.handle", 8, "name_to_handle_at and open_by_handle_at", source="shocker, 2014", needs=("root",))
def handle(a: Inside) -> None:
    mount = os.open(a.ws, os.O_RDONLY)
    for path in (a.ws + "/.attack-denied", a.outside + "/canary", a.home + "/.ssh/id_ed25519"):
        raw = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
        number = ctypes.c_int()
        if a.attempt(a.sys, "name_to_handle_at", -100, path, raw, ctypes.byref(number), 0) is not None:
            descriptor = a.attempt(a.sys, "open_by_handle_at", mount, raw, os.O_RDWR)
            if descriptor is not None:
                a.say(os.read(descriptor, 400))


@case("fs.read-aliases", 9, "a denied file by its other names: /proc/self/root, /dev/fd, //, /./, ..")
def read_aliases(a: Inside) -> None:
    here = os.open(a.ws, os.O_RDONLY | os.O_DIRECTORY)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    for path in (a.ws + "/.attack-denied", a.home + "/.ssh/id_ed25519", a.outside + "/canary"):
        folder, name = os.path.split(path)
        for alias in (
            path,
            "/proc/self/root" + path,
            "/proc/thread-self/root" + path,
            "/proc/1/root" + path,
            f"/proc/self/task/{os.getpid()}/root" + path,
            "/proc/self/cwd/" + os.path.relpath(path, os.getcwd()),
            "/proc/1/cwd/" + os.path.relpath(path, "/"),
            f"/proc/self/fd/{root}" + path,
            f"/dev/fd/{here}/" + os.path.relpath(path, a.ws),
            "//" + path.lstrip("/"),
            folder + "/./" + name,
            folder + "//" + name,
            folder + "/" + name + "/../" + name,
            os.path.relpath(path, os.getcwd()),
            a.ws + "/deep/../../" + os.path.relpath(path, os.path.dirname(a.ws)),
        ):
            a.say(a.attempt(a.read, alias))


@case("fs.read-siblings", 8, "a denied file by openat2, execveat, O_PATH and a copy by descriptor")
def read_siblings(a: Inside) -> None:
    for path in (a.ws + "/.attack-denied", a.home + "/.ssh/id_ed25519", a.ws + "/deep/down/.attack-denied"):
        for resolve in (0, 0x08, 0x10):
            name = path if resolve == 0 else os.path.relpath(path, a.ws)
            folder = os.open(a.ws, os.O_RDONLY)
            descriptor = a.attempt(a.sys, "openat2", folder, name, struct.pack("QQQ", 0, 0, resolve), 24)
            if descriptor is not None:
                a.say(os.read(descriptor, 400))
        handle = a.attempt(os.open, path, os.O_PATH)
        if handle is not None:
            a.say(a.attempt(a.read, f"/proc/self/fd/{handle}"))


@case("fs.read-directory-fd", 9, "a denied file below an open or current directory")
def read_directory_fd(a: Inside) -> None:
    for folder in (a.ws, a.ws + "/deep/down", a.home + "/.ssh", a.outside):
        descriptor = a.attempt(os.open, folder, os.O_PATH | os.O_DIRECTORY)
        if descriptor is None:
            continue
        for name in (".attack-denied", "id_ed25519", "canary"):
            number = a.attempt(lambda n=name, d=descriptor: os.open(n, os.O_RDONLY, dir_fd=d))
            if number is not None:
                a.say(os.read(number, 400))
        a.attempt(os.fchdir, descriptor)
        a.say(a.attempt(a.read, ".attack-denied"))
        a.say(a.attempt(a.read, "id_ed25519"))


@case("fs.in-root-write", 10, "openat2(RESOLVE_IN_ROOT): an absolute path that means a protected one")
def in_root_write(a: Inside) -> None:
    folder = os.open(a.ws, os.O_PATH | os.O_DIRECTORY)
    os.symlink("/.attack-kept", a.ws + "/absolute")
    for name in ("/.attack-kept", "../../.attack-kept", "/absolute", "absolute"):
        how = struct.pack("QQQ", os.O_WRONLY, 0, 0x10)
        descriptor = a.attempt(a.sys, "openat2", folder, name, how, 24)
        if descriptor is not None:
            os.write(descriptor, a.mark.encode())


@case("fs.in-root-read", 10, "openat2(RESOLVE_IN_ROOT): an absolute path that means a denied one")
def in_root_read(a: Inside) -> None:
    folder = os.open(a.ws, os.O_PATH | os.O_DIRECTORY)
    os.symlink("/.attack-denied", a.ws + "/absolute")
    for name in ("/.attack-denied", "/../.attack-denied", "/absolute", "/deep/down/.attack-denied"):
        descriptor = a.attempt(a.sys, "openat2", folder, name, struct.pack("QQQ", 0, 0, 0x10), 24)
        if descriptor is not None:
            a.say(os.read(descriptor, 400))


@case("fs.rename-parent", 0, "rename or exchange a parent of a denied or protected name, then use it")
def rename_parent(a: Inside) -> None:
    os.mkdir(a.ws + "/swap")
    a.attempt(a.sys, "renameat2", -100, a.ws + "/swap", -100, a.ws + "/vault", 2)
    a.say(a.attempt(a.read, a.ws + "/swap/inner/secret"))
    a.attempt(os.rename, a.ws + "/vault", a.ws + "/other")
    a.say(a.attempt(a.read, a.ws + "/other/inner/secret"))
    a.attempt(a.write, a.ws + "/other/inner/kept", os.O_WRONLY)
    a.attempt(os.rename, a.ws + "/vault/inner", a.ws + "/inner")
    a.say(a.attempt(a.read, a.ws + "/inner/secret"))
    a.attempt(os.rename, a.ws, a.ws + "-moved")
    a.say(a.attempt(a.read, a.ws + "-moved/vault/inner/secret"))


@case("fs.rename-scope", 0, "move what a pattern covers to where it no longer does", judge=no_leak)
def rename_scope(a: Inside) -> None:
    for old, new, name in (
        ("/scoped/inner", "/free", "/hidden"),
        ("/scoped", "/loose", "/inner/hidden"),
        ("/any/conf", "/any/fonc", "/key"),
        ("/any", "/conf", "/conf/key"),
        ("/deep", "/shallow", "/down/.attack-denied"),
        ("/scoped/inner/hidden", "/found", ""),
        ("/any/conf/key", "/found2", ""),
    ):
        a.attempt(os.rename, a.ws + old, a.ws + new)
        a.say(a.attempt(a.read, a.ws + new + name))
        os.makedirs(a.ws + "/with" + new)
        a.attempt(a.sys, "renameat2", -100, a.ws + "/with" + new, -100, a.ws + old, 2)
        a.say(a.attempt(a.read, a.ws + "/with" + new + name))


@case("fs.link-scope", 0, "make another name for a directory that a pattern covers", judge=no_leak)
def link_scope(a: Inside) -> None:
    os.symlink("../any/conf", a.ws + "/src/plain")
    os.symlink("../scoped", a.ws + "/src/wide")
    for name in ("/src/plain/key", "/src/wide/inner/hidden"):
        a.say(a.attempt(a.read, a.ws + name))
    descriptor = a.attempt(os.open, a.ws + "/any/conf", os.O_RDONLY | os.O_DIRECTORY)
    if descriptor is not None:
        a.attempt(os.rename, a.ws + "/any/conf", a.ws + "/any/moved")
        number = a.attempt(lambda: os.open("key", os.O_RDONLY, dir_fd=descriptor))
        if number is not None:
            a.say(os.read(number, 400))


@case("fs.rename-denied", 0, "rename, exchange or link a denied file to a name that is allowed")
def rename_denied(a: Inside) -> None:
    a.attempt(os.rename, a.ws + "/.attack-denied", a.ws + "/free")
    a.say(a.attempt(a.read, a.ws + "/free"))
    a.write(a.ws + "/mine")
    a.attempt(a.sys, "renameat2", -100, a.ws + "/mine", -100, a.ws + "/deep/down/.attack-denied", 2)
    a.say(a.attempt(a.read, a.ws + "/mine"))


@case("fs.symlink-to-protected", 1, "write to a protected name through a link in another directory")
def symlink_to_protected(a: Inside) -> None:
    os.symlink("../.attack-kept", a.ws + "/src/a")
    os.symlink("a", a.ws + "/src/b")
    os.symlink(a.ws + "/deep", a.ws + "/src/c")
    for name in ("/src/a", "/src/b", "/src/c/down/.attack-kept"):
        a.attempt(a.write, a.ws + name, os.O_WRONLY)
        a.attempt(os.truncate, a.ws + name, 0)


def _made(stage: Stage) -> str | None:
    made = [name for name in ("src/.attack-kept", "deep/.attack-kept") if os.path.lexists(stage.ws / name)]
    return "made on the host: " + ", ".join(made) if made else None


@case(
    "fs.create-protected",
    2,
    "create a protected name that does not exist yet",
    source="CVE-2026-25725",
    judge=_made,
)
def create_protected(a: Inside) -> None:
    for name in ("/src/.attack-kept", "/deep/.attack-kept"):
        a.attempt(a.write, a.ws + name)
    a.attempt(os.symlink, a.ws + "/src/main.py", a.ws + "/src/.attack-kept")
    a.attempt(os.mkdir, a.ws + "/src/.attack-kept")
    a.attempt(os.mkfifo, a.ws + "/src/.attack-kept")
    a.write(a.ws + "/src/new")
    a.attempt(os.rename, a.ws + "/src/new", a.ws + "/src/.attack-kept")


def _late(stage: Stage) -> None:
    for name in ("late/.attack-denied", "src/.attack-denied"):
        (stage.ws / name).parent.mkdir(exist_ok=True)
        (stage.ws / name).write_text(stage.secret)
    (stage.home / ".ssh/late").write_text(stage.secret)


@case(
    "fs.late-denied",
    16,
    "read a denied file that the host makes while the command runs",
    judge=no_leak,
    during=_late,
)
def late_denied(a: Inside) -> None:
    a.ready()
    for path in (a.ws + "/late/.attack-denied", a.ws + "/src/.attack-denied", a.home + "/.ssh/late"):
        a.say(a.attempt(a.read, path))


def _save_as_an_editor_does(stage: Stage) -> None:
    for number in range(3):
        for name in (".attack-denied", "deep/down/.attack-denied"):
            (stage.ws / "new").write_text(f"{stage.secret} {number}")
            os.rename(stage.ws / "new", stage.ws / name)
        time.sleep(0.05)


@case(
    "fs.host-rename",
    16,
    "read a denied file after an editor on the host saved it by renaming a new one over it",
    judge=no_leak,
    during=_save_as_an_editor_does,
)
def host_rename(a: Inside) -> None:
    held = [a.attempt(os.open, a.ws + "/deep/down", os.O_PATH)]
    a.ready()
    a.say(a.attempt(a.read, a.ws + "/.attack-denied"))
    a.say(a.attempt(a.read, a.ws + "/deep/down/.attack-denied"))
    if held[0] is not None:
        os.fchdir(held[0])
        a.say(a.attempt(a.read, ".attack-denied"))


def _move_the_folder(stage: Stage) -> None:
    os.rename(stage.ws / "deep", stage.ws / "moved-by-host")


@case(
    "fs.host-move",
    16,
    "read a denied file from a directory the host has moved, by an old descriptor",
    judge=no_leak,
    during=_move_the_folder,
)
def host_move(a: Inside) -> None:
    held = a.attempt(os.open, a.ws + "/deep/down", os.O_PATH)
    a.ready()
    a.say(a.attempt(a.read, a.ws + "/moved-by-host/down/.attack-denied"))
    if held is not None:
        os.fchdir(held)
        a.say(a.attempt(a.read, ".attack-denied"))
        a.say(a.attempt(a.read, "./.attack-denied"))


def _dirfd_over_a_socket(stage: Stage) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(stage.outside, os.O_RDONLY | os.O_DIRECTORY)
    socket.send_fds(ours, [b"x"], [folder])
    os.close(folder)
    stage.stdin = theirs.fileno()
    stage.resources.callback(ours.close)
    stage.resources.callback(theirs.close)


@case(
    "fs.passed-directory",
    32,
    "use an outside directory passed over standard input (SCM_RIGHTS)",
    source="CVE-2024-21626",
    prepare=_dirfd_over_a_socket,
)
def passed_directory(a: Inside) -> None:
    with socket.socket(fileno=0) as stdin:
        _, descriptors, _, _ = socket.recv_fds(stdin, 1, 4)
    for descriptor in descriptors:
        for name in ("canary", "dir/canary"):
            number = a.attempt(lambda n=name, d=descriptor: os.open(n, os.O_RDWR, dir_fd=d))
            if number is not None:
                a.say(os.read(number, 400))
                os.write(number, a.mark.encode())


def _leak_descriptors(stage: Stage) -> None:
    for path, flags in ((stage.outside, os.O_DIRECTORY), (stage.home / ".ssh/id_ed25519", os.O_RDWR)):
        descriptor = os.open(path, flags)
        stage.resources.callback(os.close, descriptor)
        stage.descriptors.append(descriptor)


@case(
    "fs.inherited-descriptors",
    32,
    "use what the caller left open: an outside directory and a secret file",
    source="CVE-2024-21626",
    prepare=_leak_descriptors,
)
def inherited_descriptors(a: Inside) -> None:
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number < 3:
            continue
        a.say(a.attempt(os.pread, number, 400, 0))
        a.attempt(os.pwrite, number, a.mark.encode(), 0)
        inner = a.attempt(lambda n=number: os.open("canary", os.O_RDWR, dir_fd=n))
        if inner is not None:
            a.say(os.read(inner, 400))


@case("fs.addfd-exhausted", 14, "make handing over a descriptor fail, in the hope of a fallback")
def addfd_exhausted(a: Inside) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    paths = (a.ws + "/.attack-kept", a.outside + "/canary")
    for limit in (3, 4, 5, 16):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        for path in paths:
            a.attempt(a.write, path, os.O_WRONLY | os.O_TRUNC)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for path in paths:
        a.attempt(a.write, path, os.O_WRONLY | os.O_TRUNC)
