"""What is dialled: the address that was checked, and no other."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from capsule.egress import dialer as module
from capsule.egress.dialer import AddressError, Dialer, DialError

pytestmark = pytest.mark.asyncio


@pytest.fixture
def server() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


async def test_a_private_address_needs_to_be_allowed(server: socket.socket) -> None:
    port = port_of(server)
    sock, address = await Dialer().dial("127.0.0.1", port, private=True)
    assert address == f"127.0.0.1:{port}"
    assert sock.getpeername() == ("127.0.0.1", port)
    sock.close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "10.0.0.1", "169.254.169.254",
     "100.64.0.1", "224.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1", "fd00::1", "64:ff9b::7f00:1"],
)  # fmt: skip
async def test_every_way_to_write_a_private_address(host: str, server: socket.socket) -> None:
    """Nothing is dialled: the server, which listens there, sees nobody."""
    with pytest.raises((AddressError, DialError)) as caught:
        await Dialer().dial(host, port_of(server), private=False)
    assert isinstance(caught.value, AddressError) or "resolve" in str(caught.value)
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()


async def test_the_checked_address_is_dialled(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers with a public address first and a private one then gains nothing."""
    asked: list[str] = []

    async def answers(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        address = "192.0.2.1" if len(asked) > 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
    sock, address = await Dialer().dial("rebinding.example", port_of(server), private=True)
    sock.close()
    assert asked == ["rebinding.example"]
    assert address.startswith("127.0.0.1:")


async def test_only_the_allowed_of_several(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []

    async def answers(host: str, port: int, **_: Any) -> Any:
        return [(0, 0, 0, "", (address, port)) for address in ("10.0.0.1", "127.0.0.1", "93.184.216.34")]

    async def connect(address: str, port: int) -> socket.socket:
        tried.append((address, port))
        raise DialError("not here")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
    monkeypatch.setattr(module, "_connect", connect)
    with pytest.raises(DialError, match="not here"):
        await Dialer().dial("mixed.example", 443, private=False)
    assert tried == [("93.184.216.34", 443)]


async def test_an_upstream_is_its_authors(server: socket.socket) -> None:
    dialer = Dialer(upstreams={"a.example": ("127.0.0.1", port_of(server))})
    sock, address = await dialer.dial("a.example", 443, private=False)
    sock.close()
    assert address == f"127.0.0.1:{port_of(server)}"


async def test_the_next_address_is_tried(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Families take turns; one that hangs costs a quarter of a second."""

    async def answers(host: str, port: int, **_: Any) -> Any:
        return [(0, 0, 0, "", (address, port)) for address in ("hangs", "fails", "127.0.0.1")]

    real = module._connect

    async def connect(address: str, port: int) -> socket.socket:
        if address == "hangs":
            await asyncio.sleep(60)
        if address == "fails":
            raise DialError("no")
        return await real(address, port)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
    monkeypatch.setattr(module, "_connect", connect)
    async with asyncio.timeout(5):
        sock, _ = await Dialer().dial("a.example", port_of(server), private=True)
    sock.close()


async def test_failures_say_which() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(DialError, match=rf"no connection to 127.0.0.1: 127.0.0.1:{port}: Connection refused"):
        await Dialer().dial("127.0.0.1", port, private=True)
    with pytest.raises(DialError, match="does not resolve"):
        await Dialer().dial("name.invalid", 443, private=False)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nearly", None),
        (b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"garbage\r\n\r\n", "garbage"),
        (b"x" * 40000, "no end"),
        (b"", "closed the connection"),
    ],
)
async def test_an_outgoing_proxy(answer: bytes, problem: str | None) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    dialer = Dialer(proxy=f"http://127.0.0.1:{port}")
    with pytest.raises(AddressError):
        await dialer.dial("10.0.0.1", 443, private=False)
    if problem is not None:
        with pytest.raises(DialError, match=problem):
            await dialer.dial("a.example", 443, private=False)
    else:
        sock, _ = await dialer.dial("a.example", 443, private=False)
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"early"
        sock.close()
        assert asked == [b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"]
    server.close()


async def test_upstreams() -> None:
    assert module._upstream("127.0.0.1:8443") == ("127.0.0.1", 8443)
    assert module._upstream("mirror.example") == ("mirror.example", None)
    assert module._upstream("[::1]:80") == ("::1", 80)


async def test_a_proxy_is_not_asked_for_names_that_lead_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this host resolves to private addresses, also among public ones, needs `private: true`; the rest goes on."""
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    known = {"inner.example": ["10.0.0.1"], "mixed.example": ["93.184.216.34", "::ffff:169.254.169.254"],
             "public.example": ["93.184.216.34"], "127.0.0.1": ["127.0.0.1"]}  # fmt: skip
    questions: list[str] = []

    async def answers(host: str, port: int, **_: Any) -> Any:
        questions.append(host)
        if host == "slow.example":
            await asyncio.sleep(60)
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
    monkeypatch.setattr(module, "LOOK_TIMEOUT", 0.2)
    dialer = Dialer(proxy=f"http://127.0.0.1:{port}")
    for name, seen in (("inner.example", "10.0.0.1"), ("mixed.example", "169.254.169.254")):
        with pytest.raises(AddressError, match=rf"{name} resolves here to .*{seen}.*private: true"):
            await dialer.dial(name, 443, private=False)
    assert asked == []
    for name in ("public.example", "elsewhere.example", "slow.example", "slow.example"):
        (await dialer.dial(name, 443, private=False))[0].close()
    (await dialer.dial("inner.example", 443, private=True))[0].close()
    assert asked == [b"public.example:443", b"elsewhere.example:443", b"slow.example:443", b"slow.example:443",
                     b"inner.example:443"]  # fmt: skip
    assert questions.count("slow.example") == 1, "what did not resolve is remembered for a while"
    server.close()


async def test_an_upstream_of_a_suffix(server: socket.socket) -> None:
    """A name below `*.suffix` goes where the policy says, and nowhere else; the most specific entry decides."""
    ways = {
        "*.acme.test": ("127.0.0.1", port_of(server)),
        "*.b.acme.test": ("127.0.0.2", 1),
        "c.acme.test": ("127.0.0.3", 1),
    }
    dialer = Dialer(upstreams=ways)
    for name in ("api.acme.test", "x.y.acme.test"):
        sock, address = await dialer.dial(name, 443, private=False)
        assert (sock.getpeername(), address) == (
            ("127.0.0.1", port_of(server)),
            f"127.0.0.1:{port_of(server)}",
        )
        sock.close()
    assert dialer.upstream("a.b.acme.test") == ("127.0.0.2", 1)
    assert dialer.upstream("c.acme.test") == ("127.0.0.3", 1)
    for name in ("acme.test", "xacme.test", "api.acme.test.evil.example"):
        assert dialer.upstream(name) is None
