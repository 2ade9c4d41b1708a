"""What a machine may be connected to, whatever its proxy asks for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from capsem.errors import MachineError
from capsem.processes.monitor.dialling import Dialling, NotDialledError
from capsem.vm.network import NOTHING
from capsule.egress.frames import Egress

pytestmark = pytest.mark.asyncio


def host(name: str, port: int, *, private: bool = False) -> dict[str, Any]:
    return {
        "host": name,
        "ports": [port],
        "methods": None,
        "paths": None,
        "inspect": "auto",
        "private": private,
    }


@pytest.fixture
def server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


class Recorded:
    """The log; `broken`: it cannot be written."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.broken = False

    async def write(self, kind: str, fields: dict[str, Any]) -> None:
        if self.broken:
            raise MachineError("cannot be recorded", next_step="")
        self.entries.append({"type": kind, **fields})

    @property
    def actions(self) -> list[str]:
        return [entry["decision"]["action"] for entry in self.entries]


def dialling(recorded: Recorded, *hosts: dict[str, Any], **plan: Any) -> Dialling:
    return Dialling(msgspec.convert({**NOTHING, "hosts": hosts, **plan}, Egress), recorded.write)


async def test_a_listed_host_is_dialled_and_recorded_before(server: int) -> None:
    recorded = Recorded()
    opening = dialling(recorded, host("127.0.0.1", server, private=True))
    sock, address = await opening.open("127.0.0.1", server, untrusted_private=True)
    with sock:
        assert sock.getpeername() == ("127.0.0.1", server)
    assert address == f"127.0.0.1:{server}"
    assert recorded.actions == ["allow"]
    recorded.broken = True
    with pytest.raises(MachineError, match="recorded"):
        await opening.open("127.0.0.1", server, untrusted_private=True)


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "169.254.169.254", "metadata.google.internal", "::1"]
)
async def test_what_is_not_listed_is_refused_without_a_word_to_it(server: int, name: str) -> None:
    recorded = Recorded()
    with pytest.raises(NotDialledError) as refused:
        await dialling(recorded, host("127.0.0.1", server + 1, private=True)).open(
            name, server, untrusted_private=True
        )
    assert refused.value.forbidden
    assert recorded.actions == ["block"]


async def test_a_listed_name_that_leads_into_the_private_is_refused(server: int) -> None:
    recorded = Recorded()
    opening = dialling(recorded, host("localhost", server))
    with pytest.raises(NotDialledError, match="private: true") as refused:
        await opening.open("localhost", server, untrusted_private=True)
    assert refused.value.forbidden
    assert recorded.actions == ["allow", "block"]


async def test_only_a_persons_word_opens_what_is_not_listed(server: int) -> None:
    recorded = Recorded()
    upstreams = [{"host": "a.example", "address": f"127.0.0.1:{server}"}]
    opening = dialling(recorded, unlisted="ask", upstreams=upstreams)
    with pytest.raises(NotDialledError):
        await opening.open("a.example", 443, untrusted_private=True)
    opening.agree("a.example", 443)
    sock, _ = await opening.open("a.example", 443, untrusted_private=True)
    sock.close()
    with pytest.raises(NotDialledError):
        await opening.open("a.example", 80, untrusted_private=True)
    assert recorded.actions == ["block", "allow", "block"]


async def test_nobody_there_is_no_refusal(server: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gone = listening.getsockname()[1]
    with pytest.raises(NotDialledError, match="refused") as failed:
        await dialling(Recorded(), host("127.0.0.1", gone, private=True)).open(
            "127.0.0.1", gone, untrusted_private=True
        )
    assert not failed.value.forbidden


async def test_an_entry_that_is_not_private_leads_nowhere_private_beside_one_that_is(server: int) -> None:
    """The attack: a host with a path that may lead here and one that may not, and a request for the latter."""
    recorded = Recorded()
    entries = (host("127.0.0.1", server, private=True), host("127.0.0.1", server))
    opening = dialling(recorded, *entries)
    with pytest.raises(NotDialledError, match="private: true") as refused:
        await opening.open("127.0.0.1", server, untrusted_private=False)
    assert refused.value.forbidden
    (await opening.open("127.0.0.1", server, untrusted_private=True))[0].close()
    assert recorded.actions == ["allow", "block", "allow"]
    with pytest.raises(NotDialledError, match="private: true"):
        await dialling(Recorded(), entries[1]).open("127.0.0.1", server, untrusted_private=True)
