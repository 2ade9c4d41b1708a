"""Connections to the outside: resolve here, check every address, dial the one that was checked.

Refuses an address that the policy does not allow (`AddressError`): a name may resolve to anything, also between two
questions, so what is checked is what is dialled. With an outgoing proxy the name is asked for by CONNECT and the proxy
resolves: what is checked then is what this host resolves the name to, and a name that only the proxy knows goes on
unchecked. The proxy's own address is of the policy's author and is not checked.

    dialer = Dialer(upstreams={"mirror.example": ("127.0.0.1", 8443)}, proxy=None)
    sock, address = await dialer.dial("example.com", 443, private=False)
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from capsule.egress.frames import Egress
from capsule.policy.addresses import HostError, forbidden, normalise_host

CONNECT_TIMEOUT = 10.0
"""Seconds for one address."""
RESOLVE_TIMEOUT = 10.0
LOOK_TIMEOUT = 2.0
"""Seconds for a look at where a name leads that a proxy will resolve."""
HEAD_START = 0.25
"""Seconds before the next address is tried beside the last (RFC 8305 §5)."""
REMEMBERED = 5.0
"""Seconds that the addresses of a name are used again."""
_PROXY_HEAD = 16 << 10


class DialError(OSError):
    """There is no connection; the text says which of resolution, address and connection failed."""

    def __str__(self) -> str:
        return str(self.args[0])


class AddressError(DialError):
    """Every address of the name is one that the policy does not allow."""


@dataclass(slots=True)
class Dialer:
    """Dials for one session.

    Attributes:
        upstreams: names, and `*.suffix`, that go to an address of the policy's author; the most specific decides.
        proxy: `http://host:port`, through which everything else goes.
    """

    upstreams: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)
    proxy: str | None = None
    _known: dict[tuple[str, int], tuple[float, list[tuple[str, int]]]] = field(default_factory=dict)

    async def dial(self, host: str, port: int, *, private: bool) -> tuple[socket.socket, str]:
        """A connected socket and the address it is connected to, as `ip:port`.

        Raises:
            AddressError: the policy does not allow any address of the name.
            DialError: resolution or connection failed.
        """
        if (upstream := self.upstream(host)) is not None:
            place = (upstream[0], upstream[1] or port)
            return await self._first(await self._resolve(*place), f"{host} (upstream {place[0]}:{place[1]})")
        if self.proxy is not None:
            return await self._through_proxy(host, port, private=private)
        found = await self._resolve(host, port)
        allowed = [place for place in found if private or forbidden(place[0]) is None]
        if not allowed:
            reasons = ", ".join(f"{address}, {forbidden(address)}" for address, _ in found[:4])
            raise AddressError(f"{host} resolves to {reasons}, which needs `private: true` in its host entry")
        return await self._first(allowed, host)

    def upstream(self, host: str) -> tuple[str, int | None] | None:
        """Where a name goes by the policy's word: its own entry, else that of its longest suffix."""
        found = self.upstreams.get(host)
        at = host.find(".")
        while found is None and at >= 0:
            found = self.upstreams.get(f"*{host[at:]}")
            at = host.find(".", at + 1)
        return found

    async def _resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        known = self._known.get((host, port))
        now = time.monotonic()
        if known is not None and known[0] > now:
            return known[1]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise DialError(f"{host} was not resolved within {RESOLVE_TIMEOUT:.0f} s") from None
        except OSError as error:
            raise DialError(f"{host} does not resolve: {error.strerror or error}") from None
        found = _interleave([(str(answer[4][0]), port) for answer in answers])
        if not found:
            raise DialError(f"{host} has no address")
        self._remember(host, port, found)
        return found

    def _remember(self, host: str, port: int, found: list[tuple[str, int]]) -> None:
        if len(self._known) >= 4096:
            self._known.clear()
        self._known[host, port] = (time.monotonic() + REMEMBERED, found)

    async def _first(self, places: Sequence[tuple[str, int]], what: str) -> tuple[socket.socket, str]:
        """The first of the addresses that answers; the next one starts when the last is slow or failed."""
        failures: list[str] = []
        tasks: dict[asyncio.Task[socket.socket], tuple[str, int]] = {}
        waiting = list(places[:8])
        try:
            while waiting or tasks:
                if waiting:
                    place = waiting.pop(0)
                    tasks[asyncio.create_task(_connect(*place))] = place
                done, _ = await asyncio.wait(
                    tasks, timeout=HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    place = tasks.pop(task)
                    error = task.exception()
                    if error is None:
                        return task.result(), f"{place[0]}:{place[1]}"
                    failures.append(f"{place[0]}:{place[1]}: {error}")
        finally:
            for task in tasks:
                task.cancel()
                task.add_done_callback(_drop)
        raise DialError(f"no connection to {what}: {'; '.join(failures)}")

    async def _look(self, host: str, port: int) -> None:
        """Refuses a name that this host resolves to an address which is not public, if only to one among others.

        Raises:
            AddressError: it does.
        """
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                found = await self._resolve(host, port)
        except (TimeoutError, DialError):
            self._remember(host, port, [])  # only the proxy knows it, or nobody
            return
        inside = [(address, reason) for address, _ in found if (reason := forbidden(address)) is not None]
        if inside:
            reasons = ", ".join(f"{address}, {reason}" for address, reason in inside[:4])
            raise AddressError(
                f"{host} resolves here to {reasons}, which needs `private: true` in its host entry"
            )

    async def _through_proxy(self, host: str, port: int, *, private: bool) -> tuple[socket.socket, str]:
        assert self.proxy is not None
        try:
            literal = normalise_host(host).address
        except HostError as error:
            raise DialError(f"{host} is not asked of a proxy: {error.what}") from None
        if not private and literal is not None and (reason := forbidden(literal)) is not None:
            raise AddressError(f"{host}, {reason}, needs `private: true` in its host entry")
        if not private and literal is None:
            await self._look(host, port)
        parts = urlsplit(self.proxy)
        place = (parts.hostname or "", parts.port or 3128)
        sock, address = await self._first(await self._resolve(*place), f"the proxy {place[0]}:{place[1]}")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                target = f"{host}:{port}"
                await loop.sock_sendall(sock, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
                await _proxy_answer(sock)
        except TimeoutError:
            sock.close()
            raise DialError(f"the proxy {place[0]}:{place[1]} did not answer CONNECT") from None
        except OSError as error:
            sock.close()
            raise DialError(f"the proxy {place[0]}:{place[1]} refused {host}:{port}: {error}") from None
        return sock, address


def _interleave(places: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Families in turn (RFC 8305 §4), each address once."""
    unique = list(dict.fromkeys(places))
    six = [place for place in unique if ":" in place[0]]
    four = [place for place in unique if ":" not in place[0]]
    if unique and unique[0] in four:
        six, four = four, six
    mixed = [place for pair in zip(six, four, strict=False) for place in pair]
    return mixed + six[len(four) :] + four[len(six) :]


async def _connect(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except TimeoutError:
        sock.close()
        raise DialError(f"no answer within {CONNECT_TIMEOUT:.0f} s") from None
    except OSError as error:
        sock.close()
        raise DialError(os.strerror(error.errno) if error.errno else str(error)) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _drop(task: asyncio.Task[socket.socket]) -> None:
    """Closes the connection of an attempt that lost."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _proxy_answer(sock: socket.socket) -> None:
    """Reads the head of the answer to CONNECT byte for byte: what follows belongs to the tunnel."""
    loop = asyncio.get_running_loop()
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        data = await loop.sock_recv(sock, 1)
        if not data:
            raise DialError("it closed the connection")
        head += data
        if len(head) > _PROXY_HEAD:
            raise DialError("its answer has no end")
    status = bytes(head).split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        raise DialError(f"it answered {bytes(head[:80]).splitlines()[0].decode('latin-1')!r}")


def upstreams(plan: Egress) -> dict[str, tuple[str, int | None]]:
    """Where names go that the policy's author sends to an address."""
    return {upstream.host: _upstream(upstream.address) for upstream in plan.upstreams}


def _upstream(address: str) -> tuple[str, int | None]:
    host, colon, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if colon else (address, None)
