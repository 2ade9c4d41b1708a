"""What an act has at hand inside the sandbox: paths, raw system calls, and three words to the host.

This file is never imported by an act. Its text is sent with the act's own text as one `python3 -I -c`
argument, so that nothing has to be readable inside but an interpreter. It therefore uses the standard
library alone, and runs on any Python from 3.6.
It refuses to judge: whatever an act prints is loot or noise, and the host alone decides what happened.

    def read_the_key(a: Inside) -> None:
        a.say(a.read(a.home + "/.ssh/id_ed25519"))
"""

import ctypes
import json
import os
import platform
import sys
import threading
import time
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# System call numbers: x86-64, AArch64 (kernel sources, arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h). None where the architecture has no such call.
CALLS = {
    "open": (2, None),
    "mprotect": (10, 226),
    "ioctl": (16, 29),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "creat": (85, None),
    "link": (86, None),
    "ptrace": (101, 117),
    "personality": (135, 92),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "acct": (163, 89),
    "mount": (165, 40),
    "swapon": (167, 224),
    "init_module": (175, 105),
    "quotactl": (179, 60),
    "setxattr": (188, 5),
    "fsetxattr": (190, 7),
    "mq_open": (240, 180),
    "mq_receive": (243, 183),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "tgkill": (234, 131),
    "openat": (257, 56),
    "mknodat": (259, 33),
    "fchownat": (260, 54),
    "linkat": (265, 37),
    "symlinkat": (266, 36),
    "fchmodat": (268, 53),
    "unshare": (272, 97),
    "splice": (275, 76),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "renameat2": (316, 276),
    "memfd_create": (319, 279),
    "bpf": (321, 280),
    "execveat": (322, 281),
    "userfaultfd": (323, 282),
    "statx": (332, 291),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "memfd_secret": (447, 447),
    "fchmodat2": (452, 452),
    "setxattrat": (463, 463),
    "open_tree_attr": (467, 467),
    "file_setattr": (469, 469),
}
AT_FDCWD = -100


class Inside:
    """One act's surroundings; everything the host wants it to know came as one JSON argument."""

    def __init__(self, told: str) -> None:
        facts = json.loads(told)
        self.ws: str = facts["ws"]
        self.home: str = facts["home"]
        self.outside: str = facts["outside"]
        self.mark: str = facts["mark"]
        self.hook: str = facts["hook"]
        self.confined: bool = facts["confined"]
        self._host: dict[str, str] = facts["namespaces"]
        self.extra: dict[str, Any] = facts["extra"]
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long

    def sys(self, name: str, *arguments: object) -> int:
        """One raw system call by name; raises OSError, with ENOSYS where the architecture has none."""
        number = CALLS[name][0 if platform.machine() == "x86_64" else 1]
        if number is None:
            raise OSError(38, name + ": not on this architecture")
        return self.nr(number, *arguments)

    def nr(self, number: int, *arguments: object) -> int:
        """One raw system call by number. Integers go as 64 bits, text and bytes as pointers."""
        raw = [
            ctypes.c_long(value)
            if isinstance(value, int)
            else ctypes.c_char_p(value.encode())
            if isinstance(value, str)
            else value
            for value in arguments
        ]
        result = self._libc.syscall(ctypes.c_long(number), *raw)
        if result == -1:
            code = ctypes.get_errno()
            raise OSError(code, f"system call {number}: {os.strerror(code)}")
        return int(result)

    def elsewhere(self, kind: str) -> bool:
        """Whether this process is in another namespace of a kind ("pid", "mnt") than the host.

        What reaches beyond the stage (signals to all, other processes' memory and descriptors, mounts,
        terminals, devices) asks this first: an act must stay harmless when the sandbox does not hold.
        A namespace that cannot be read counts as the host's.
        """
        try:
            return os.readlink("/proc/self/ns/" + kind) != self._host[kind]
        except (OSError, KeyError):
            return False

    def attempt(self, act: "Callable[..., Any]", *arguments: "Any") -> "Any":
        """Try, and go on when the system refuses: the refusal goes to standard error."""
        try:
            return act(*arguments)
        except OSError as refusal:
            sys.stderr.write(f"refused: {refusal}\n")
            return None

    def read(self, path: str, limit: int = 65536) -> bytes:
        """The first bytes of a file."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.read(descriptor, limit)
        finally:
            os.close(descriptor)

    def write(self, path: str, flags: int = os.O_WRONLY | os.O_CREAT, text: str = "") -> None:
        """Put the mark (or a text) into a file."""
        descriptor = os.open(path, flags, 0o755)
        try:
            os.write(descriptor, (text or self.mark).encode())
        finally:
            os.close(descriptor)

    def plant(self, path: str) -> None:
        """Write the host's booby trap: a script that, run outside, leaves a file the host can see."""
        self.attempt(os.unlink, path)
        self.write(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "#!/bin/sh\n" + self.hook + "\n")
        self.attempt(os.chmod, path, 0o755)

    def say(self, loot: object) -> None:
        """Carry something out: the host looks for its secrets in what comes out."""
        data = loot if isinstance(loot, bytes) else str(loot).encode("utf-8", "replace")
        view = memoryview(data + b"\n")
        while view:
            view = view[os.write(1, view) :]

    def ready(self) -> None:
        """Tell the host to look now, and hold everything still until it has looked."""
        os.write(1, b"#ready\n")
        while os.read(0, 4096):
            pass

    def reach(
        self, who: str, tls: bool = True, sni: str = "", alpn: "tuple[str, ...]" = ("http/1.1",)
    ) -> "Any":
        """A connection to a server the policy lists; where nothing holds, to the same server itself."""
        import socket
        import ssl

        name = who + ".example"
        to = (name, 443 if tls else 80) if self.confined else ("127.0.0.1", self.extra[who])
        one = socket.create_connection(to, 6)
        if not tls:
            return one
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(one, server_hostname=sni or name)

    def tell(self, one: "Any", data: bytes) -> bytes:
        """Send, and what is answered at first; nothing where it is refused."""
        if one is None:
            return b""
        try:
            one.settimeout(1.5)
            one.sendall(data)
            return bytes(one.recv(65536))
        except OSError:
            return b""

    def welcome(self) -> None:
        """What is allowed works: without that, nothing that fails afterwards says anything."""
        try:
            answer = self.tell(
                self.reach("friend"), b"GET /open/hello HTTP/1.1\r\nHost: friend.example\r\n\r\n"
            )
        except OSError as refusal:
            raise RuntimeError("the allowed host is not reached") from refusal
        if b" 200 " not in answer:
            raise RuntimeError("the allowed host does not answer")

    def race(self, *words: str) -> None:
        """Run the compiled race program the host put beside the work; a fault when it may not run."""
        import subprocess

        try:
            code = subprocess.call([self.ws + "/race", *words], cwd=self.ws)
        except OSError as refusal:
            raise RuntimeError("this policy does not let a program of the workspace run") from refusal
        if code:
            raise RuntimeError(f"the race program ended with {code}")

    def together(self, act: "Callable[[int], Any]", seconds: float, threads: int = 2) -> None:
        """Run `act(n)` over and over in several threads, for some seconds."""
        until = time.monotonic() + seconds

        def repeat(index: int) -> None:
            while time.monotonic() < until:
                try:
                    act(index)
                except OSError:
                    continue

        crew = [threading.Thread(target=repeat, args=(index,)) for index in range(threads)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()


def perform(act: "Callable[[Inside], None]") -> None:
    """Run one act. A refusal ends it well; anything else is a fault of the act, and is said."""
    os.write(1, b"#start\n")
    try:
        act(Inside(sys.argv[1]))
    except OSError as refusal:
        sys.stderr.write(f"refused: {refusal}\n")
    except BaseException:  # noqa: BLE001 — an act with a fault must never look like an act that was refused
        traceback.print_exc()
        os.write(1, b"#broken\n")
        os._exit(70)
    os.write(1, b"#done\n")
    os._exit(0)
