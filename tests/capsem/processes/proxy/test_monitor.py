"""What the proxy asks its monitor for, and the answers it takes."""

from __future__ import annotations

import asyncio
import socket

import pytest

from capsem.errors import WireError
from capsem.host.handover import Handover
from capsem.processes.proxy.monitor import MonitorLink
from capsem.wire.frame import Message
from capsem.wire.proxy import Dial, Dialled, Noted, Record, decode_proxy, encode
from capsule.egress.dialer import AddressError, DialError

pytestmark = pytest.mark.asyncio


class Pair:
    """A link, and the monitor's end of it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.monitor = Handover(theirs, on_message=self.heard.put_nowait, on_end=lambda _: None)
        self.monitor.start()
        self.handover = Handover(ours, on_message=lambda _: None, on_end=lambda _: None)
        self.handover.start()
        self.link = MonitorLink(self.handover)

    async def next(self) -> object:
        return decode_proxy(await asyncio.wait_for(self.heard.get(), 5))

    def close(self) -> None:
        self.monitor.close("done")
        self.handover.close("done")


async def test_a_refusal_is_told_as_what_it_is() -> None:
    pair = Pair()
    for forbidden, kind in ((True, AddressError), (False, DialError)):
        asked = asyncio.create_task(pair.link.dial("a.example", 443, private=True))
        dial = await pair.next()
        assert isinstance(dial, Dial)
        assert (dial.host, dial.port) == ("a.example", 443)
        pair.link.dialled(Dialled(dial.id, None, "why", forbidden=forbidden))
        with pytest.raises(DialError, match="why") as refused:
            await asked
        assert type(refused.value) is kind
    pair.close()


async def test_answers_to_what_was_not_asked_end_it() -> None:
    pair = Pair()
    with pytest.raises(WireError):
        pair.link.dialled(Dialled(9, None, "why"))
    with pytest.raises(WireError):
        pair.link.marked(Noted(9))
    with pytest.raises(WireError, match="without its descriptor"):
        pair.link.dialled(Dialled(9, "1.2.3.4:5", None))
    pair.close()


async def test_a_connection_for_one_who_has_gone_is_closed() -> None:
    pair = Pair()
    asked = asyncio.create_task(pair.link.dial("a.example", 443, private=False))
    dial = await pair.next()
    assert isinstance(dial, Dial)
    asked.cancel()
    await asyncio.sleep(0)
    near, far = socket.socketpair()
    pair.monitor.send(encode(Dialled(dial.id, "1.2.3.4:443", None)), [near.detach()])
    await asyncio.sleep(0.05)
    pair.link.dialled(Dialled(dial.id, "1.2.3.4:443", None))
    far.settimeout(5)
    assert far.recv(1) == b""
    far.close()
    pair.close()


async def test_records_go_out_and_nothing_unknown() -> None:
    pair = Pair()
    pair.link.send({"type": "record", "entry": {"type": "egress.dns"}})
    assert await pair.next() == Record({"type": "egress.dns"})
    with pytest.raises(ValueError, match="a session said"):
        pair.link.send({"type": "ready"})
    pair.close()
