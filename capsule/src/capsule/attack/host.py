"""What the host can see of a run, and what this host offers: processes, descriptors, listeners.

Everything here reads `/proc` and its own sockets. Refused: asking the sandboxed command.

    listener = TcpListener("127.0.0.1")
    ...
    if listener.heard(): ...
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import ipaddress
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path


def parents() -> dict[int, int]:
    """Parent of every process the host sees."""
    found: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                text = Path("/proc", entry, "stat").read_text()
                found[int(entry)] = int(text[text.rindex(")") + 2 :].split()[1])
    return found


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, not itself."""
    tree = parents()
    found: list[int] = []
    edge = [pid]
    while edge:
        edge = [child for child, parent in tree.items() if parent in edge]
        found.extend(edge)
    return found


def named(token: str) -> list[int]:
    """Processes whose command line carries the token of one run; zombies carry none."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if token.encode() in Path("/proc", entry, "cmdline").read_bytes():
                    found.append(int(entry))
    return found


def actors(token: str, capsule: str) -> list[int]:
    """Those of `named` that run something other than the `capsule` binary: the command itself."""
    found = []
    for pid in named(token):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe") != os.path.realpath(capsule):
                found.append(pid)
    return found


def status(pid: int) -> dict[str, str]:
    """`/proc/PID/status` as a table."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def descriptors(pid: int) -> dict[int, str]:
    """What each open descriptor of a process names."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found[int(entry)] = os.readlink(f"/proc/{pid}/fd/{entry}")
    return found


def end(pids: list[int], how: signal.Signals = signal.SIGKILL) -> None:
    """End processes of ours by number."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, how)


# x86-64; `keyctl` is two further.
CALL_ADD_KEY = 248


class Listener:
    """A socket on the host, and all that was ever said to it."""

    def __init__(self, family: int, kind: int, address: object, protocol: int = 0) -> None:
        """Bind, and listen in a thread of its own until `close`."""
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.bind(address)  # type: ignore[arg-type]
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(0.1)
        self.address = self._socket.getsockname()
        self.said: list[bytes] = []
        self._stop = threading.Event()
        self._stream = kind == socket.SOCK_STREAM
        if self._stream:
            self._socket.listen(16)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                if self._stream:
                    peer, _ = self._socket.accept()
                    with peer:
                        peer.settimeout(0.2)
                        self.said.append(b"connected")
                        with contextlib.suppress(OSError):
                            self.said.append(peer.recv(4096))
                else:
                    self.said.append(self._socket.recvfrom(65536)[0])
            except TimeoutError:
                continue
            except OSError:
                return

    def heard(self) -> bool:
        """Whether anything arrived; gives what is under way a moment."""
        time.sleep(0.15)
        return bool(self.said)

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(1)
        self._socket.close()


def lan_address() -> str | None:
    """An IPv4 address of this host that is not loopback; nothing is sent to find it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address = str(probe.getsockname()[0])
        return None if address.startswith("127.") else address
    return None


def private_name() -> str | None:
    """This host's own name, when it resolves to an address that no policy should be led to unasked."""
    name = socket.gethostname().lower()
    with contextlib.suppress(OSError, ValueError):
        if ipaddress.ip_address(socket.gethostbyname(name)).is_private:
            return name
    return None


def offers(need: str, compilers: tuple[str, ...] = ("cc", "gcc", "clang")) -> str | None:
    """Whether this host offers what a case needs.

    Args:
        need: `root`, `user`, `x86`, `git`, `cc`, `ipv6`, `lan`, `egress`, `name`, `userns`, `tiocsti` or `loader`.
        compilers: Names tried for `cc`.

    Returns:
        None when it does, else what is missing, for a person.
    """
    if need in {"root", "user"}:
        wanted = "root" if need == "root" else "an ordinary user"
        return None if (os.geteuid() == 0) is (need == "root") else f"needs {wanted} on the host"
    if need == "x86":
        return None if platform.machine() == "x86_64" else "needs an x86-64 host"
    if need == "cc":
        return None if any(map(shutil.which, compilers)) else "needs a C compiler on the host"
    if need == "git":
        return None if shutil.which("git") else "needs git on the host"
    if need == "lan":
        return None if lan_address() else "needs a host address that is not loopback"
    if need == "egress":
        missing = sys.version_info < (3, 12) or importlib.util.find_spec("mitmproxy") is None
        return "needs Python 3.12 and the extra capsule[egress]" if missing else None
    if need == "name":
        return None if private_name() else "needs a host whose own name leads to a private address"
    if need == "ipv6":
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
                probe.bind(("::1", 0))
        except OSError as refusal:
            return f"needs IPv6 on the host ({refusal.strerror})"
        return None
    if need == "userns":
        tried = subprocess.run(["unshare", "-U", "true"], capture_output=True, check=False)
        return None if tried.returncode == 0 else "needs user namespaces on the host"
    if need == "tiocsti":
        switch = Path("/proc/sys/dev/tty/legacy_tiocsti")
        off = switch.exists() and switch.read_text().strip() == "0" and os.geteuid() != 0
        return "this kernel has TIOCSTI switched off" if off else None
    if need == "loader":
        return None if Path("/lib64/ld-linux-x86-64.so.2").exists() else "needs the x86-64 dynamic loader"
    raise ValueError(f"no such need: {need}")


def shared_memory(text: bytes, key: int) -> int:
    """A System V segment of the host with a text in it; returns its id (remove with `forget_memory`)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    number = libc.shmget(key, 4096, 0o1600)
    if number < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    address = libc.shmat(number, None, 0)
    ctypes.memmove(address, text, len(text))
    libc.shmdt(ctypes.c_void_p(address))
    return int(number)


def forget_memory(number: int) -> None:
    """Remove a segment made by `shared_memory`."""
    ctypes.CDLL(None).shmctl(number, 0, None)
