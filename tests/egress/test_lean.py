"""The quicker methods answer as mitmproxy's own."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hyperframe.frame import DataFrame
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.coretypes import multidict
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import tls as layers_tls
from OpenSSL import SSL

import capsule.egress.lean
from tests.egress.certificates import make

NAMES = st.sampled_from(["Host", "host", "HOST", "X-A", "x-a", "accept", ""])
FIELDS = st.lists(st.tuples(NAMES.map(str.encode), st.binary(max_size=6)), max_size=6)


@given(FIELDS, NAMES)
def test_as_before(fields: list[tuple[bytes, bytes]], name: str) -> None:
    headers = http.Headers(fields)
    slow = [
        value.decode("utf-8", "surrogateescape")
        for value in multidict._MultiDict.get_all(headers, name.encode())
    ]
    assert headers.get_all(name) == headers.get_all(name.encode()) == slow
    assert headers.get(name) == (", ".join(slow) if slow else None)
    assert headers.get(name, "default") == (", ".join(slow) if slow else "default")
    assert (name in headers) is bool(slow)
    if slow:
        assert headers[name] == ", ".join(slow)
    else:
        with pytest.raises(KeyError):
            headers[name]
    assert 7 not in headers


def test_messages_are_still_made() -> None:
    assert capsule.egress.lean
    assert http.Response.make(200, b"x").content == b"x"
    assert http.Request.make("GET", "https://a.example/x").host == "a.example"


def test_a_frame_s_body_is_not_written_out_for_a_log() -> None:
    frame = DataFrame(1, b"what it carries")
    assert "7768" not in repr(frame)  # its first two bytes, as hyperframe shows them
    assert b"what it carries" in frame.serialize()


def _pair() -> tuple[SSL.Connection, SSL.Connection]:
    """A program and its other end over TLS, past the handshake, in memory."""
    found = make("a.example", names=("a.example",))
    inner = SSL.Context(SSL.TLS_SERVER_METHOD)
    inner.use_certificate(found.certificate)
    inner.use_privatekey(found.key)
    server, client = SSL.Connection(inner), SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                while True:
                    other.bio_write(one.bio_read(65535))
    return client, server


def _sent(connection: SSL.Connection) -> bytes:
    out = b""
    with contextlib.suppress(SSL.WantReadError):
        while True:
            out += connection.bio_read(65535)
    return out


def _layer(connection: SSL.Connection) -> tuple[layers_tls.TLSLayer, list[events.Event]]:
    conn = Client(peername=("10.0.0.1", 1), sockname=("10.0.0.2", 443), state=ConnectionState.OPEN)
    made = layers_tls.TLSLayer(Context(conn, None), conn)  # type: ignore[arg-type]
    made.tls = connection
    seen: list[events.Event] = []

    def see(event: events.Event) -> Iterator[commands.Command]:
        seen.append(event)
        yield from ()

    made.event_to_child = see  # type: ignore[method-assign, assignment]
    return made, seen


@pytest.mark.parametrize("size", [1, 16384, 16385, 300_000, 600_000])
def test_records_come_and_go_in_one_piece(size: int) -> None:
    client, server = _pair()
    data = random.Random(size).randbytes(size)
    client.sendall(data)
    made, seen = _layer(server)
    assert not [one for one in made.receive_data(_sent(client)) if isinstance(one, commands.Log)]
    assert [type(event) for event in seen] == [events.DataReceived]
    assert isinstance(seen[0], events.DataReceived)
    assert seen[0].data == data
    out = list(made.send_data(data))
    assert len(out) == (1 if size <= 500_000 else 2)
    for command in out:
        assert isinstance(command, commands.SendData)
        client.bio_write(command.data)
    got = b""
    with contextlib.suppress(SSL.WantReadError):
        while True:
            got += client.recv(65535)
    assert got == data


def test_the_end_of_tls_comes_after_what_was_said_before_it() -> None:
    client, server = _pair()
    client.sendall(b"last")
    client.shutdown()
    made, seen = _layer(server)
    list(made.receive_data(_sent(client)))
    assert [type(event) for event in seen] == [events.DataReceived, events.ConnectionClosed]
    assert not made.conn.state & ConnectionState.CAN_READ


def test_broken_records_give_nothing_on() -> None:
    client, server = _pair()
    client.sendall(b"first")
    good = _sent(client)
    client.sendall(b"second")
    bad = bytearray(_sent(client))
    bad[-1] ^= 1
    made, seen = _layer(server)
    list(made.receive_data(good + bytes(bad)))
    assert [event.data for event in seen if isinstance(event, events.DataReceived)] == [b"first"]
    list(made.receive_data(good))
    assert len(seen) == 1


def test_the_layers_of_a_connection_use_them() -> None:
    """In the daemon itself: nothing else there would import them."""
    told = "import sys, capsule.egress.layers; print('capsule.egress.lean' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
