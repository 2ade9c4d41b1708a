"""What monitor and proxy say: typed both ways, and nothing else is taken."""

from __future__ import annotations

import pytest

from capsem.errors import WireError
from capsem.wire import proxy
from capsem.wire.frame import FrameReader, Message

MONITOR: list[proxy.MonitorSaid] = [
    proxy.Begin(), proxy.Dialled(1, "192.0.2.1:443", None), proxy.Dialled(2, None, "refused", forbidden=True),
    proxy.Served(3, None), proxy.Served(4, "not declared"),
    proxy.Noted(3), proxy.Answer("a", allow=True, scope="host", for_ms=5), proxy.Secret("api", "v"),
]  # fmt: skip
PROXY: list[proxy.ProxySaid] = [
    proxy.Ready(2, ("a problem",)), proxy.Record({"type": "egress.dns"}), proxy.Note(1),
    proxy.Dial(1, "a.example", 443, private=False),
    proxy.Serve(1, "files"), proxy.Over(1), proxy.Ask({"id": "x"}), proxy.Asked("x", "nobody answered"),
    proxy.NeedSecret("api"), proxy.Lost("a frame of 0 bytes"),
]  # fmt: skip


def framed(data: bytes) -> Message:
    [frame] = FrameReader().feed(data)
    assert isinstance(frame, Message)
    return frame


@pytest.mark.parametrize("said", MONITOR, ids=lambda said: type(said).__name__)
def test_what_a_monitor_says(said: proxy.MonitorSaid) -> None:
    assert proxy.decode_monitor(framed(proxy.encode(said))) == said
    with pytest.raises(WireError, match="not a proxy's message"):
        proxy.decode_proxy(framed(proxy.encode(said)))


@pytest.mark.parametrize("said", PROXY, ids=lambda said: type(said).__name__)
def test_what_a_proxy_says(said: proxy.ProxySaid) -> None:
    assert proxy.decode_proxy(framed(proxy.encode(said))) == said


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b"[]", b"\xff", b'{"type": "dial", "id": 1, "host": "a"}', b'{"type": "note", "id": 0}',
        b'{"type": "dial", "id": 1, "host": "", "port": 443}', b'{"type": "dial", "id": 1, "host": "a", "port": 65536}',
        b'{"type": "note", "id": 1, "more": 1}', b'{"type": "exec", "argv": ["true"]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_sentence_of_a_proxy(body: bytes) -> None:
    with pytest.raises(WireError):
        proxy.decode_proxy(Message(body))


def test_a_beginning_keeps_its_key_out_of_sight() -> None:
    beginning = proxy.Beginning({"run": "r"}, proxy.Signer("CERT", "KEY", ("a.example",)))
    assert "KEY" not in repr(beginning)
    assert "topsecret" not in repr(proxy.Secret("api", "topsecret"))
    assert proxy.decode_beginning(proxy.encode_beginning(beginning)) == beginning
    with pytest.raises(WireError):
        proxy.decode_beginning(b'{"session": {}}')
