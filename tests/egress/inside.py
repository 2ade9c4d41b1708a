"""A network namespace that looks like a sandbox's: every IPv4 address is local, a resolver named, ports listened on.

Run under `unshare --user --map-root-user --net --mount`, with the number of a Unix socket's descriptor: sends the
sockets, then runs the commands it is told, one JSON object a line. It is the stage, not part of what is tested.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from typing import Any

RESOLVER = "198.18.0.1"


def everything_is_local() -> None:
    """Loopback up (netdevice(7)) and `local 0.0.0.0/0 dev lo` (rtnetlink(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0x1 | 0x40)
        fcntl.ioctl(sock, 0x8914, request)
    index = struct.pack("HHI", 8, 4, socket.if_nametoindex("lo"))
    route = struct.pack("BBBBBBBBI", socket.AF_INET, 0, 0, 0, 255, 3, 254, 2, 0)
    body = route + index
    header = struct.pack("IHHII", 16 + len(body), 24, 0x1 | 0x4 | 0x400 | 0x200, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.send(header + body)
        answer = link.recv(4096)
        code = struct.unpack_from("i", answer, 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))


def resolver_is_named() -> None:
    """A resolv.conf of our own over the host's, in this mount namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        file.write(f"nameserver {RESOLVER}\noptions timeout:5 attempts:1\n")
    os.chmod(file.name, 0o644)
    if libc.mount(file.name.encode(), b"/etc/resolv.conf", None, 0x1000, None):
        raise OSError(ctypes.get_errno(), "bind mount of resolv.conf")
    os.unlink(file.name)


def listening(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("0.0.0.0", port))
    sock.listen(1024)
    return sock


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    ports = [int(text) for text in sys.argv[2:]]
    everything_is_local()
    resolver_is_named()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_PKTINFO if hasattr(socket, "IP_PKTINFO") else 8, 1)
    udp.bind(("0.0.0.0", 53))
    sockets = [udp, listening(53), *map(listening, ports)]
    numbers = array.array("i", [sock.fileno() for sock in sockets])
    control.sendmsg([b"R"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers.tobytes())])
    for sock in sockets:
        sock.close()
    lock = threading.Lock()

    def run(order: dict[str, Any]) -> None:
        done = subprocess.run(
            order["argv"],
            input=str(order["input"]).encode(),
            capture_output=True,
            check=False,
            timeout=float(order["timeout"]),
            env={**os.environ, **order["env"]},
        )
        answer = {
            "id": order["id"],
            "code": done.returncode,
            "out": done.stdout.decode("utf-8", "backslashreplace"),
            "err": done.stderr.decode("utf-8", "backslashreplace"),
        }
        with lock:
            control.sendall(json.dumps(answer).encode() + b"\n")

    for line in control.makefile("rb"):
        threading.Thread(target=run, args=(json.loads(line),), daemon=True).start()


main()
