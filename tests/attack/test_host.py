"""The host's eyes: processes by token, their descriptors, and listeners that hear."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from capsule.attack import host

TOKEN = f"token-{os.getpid()}"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", "import os,time; os.fork(); print(flush=True); time.sleep(30)", TOKEN],
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.readline()
    process.stdout.readline()
    yield process
    host.end(host.named(TOKEN))
    process.wait()
    process.stdout.close()


def test_a_process_and_its_child_are_found_and_ended(sleeper: subprocess.Popen[bytes]) -> None:
    found = host.named(TOKEN)
    assert sleeper.pid in found
    assert len(found) == 2
    assert set(host.descendants(sleeper.pid)) == set(found) - {sleeper.pid}
    assert set(host.actors(TOKEN, "/absent/capsule")) == set(found)
    assert host.actors(TOKEN, os.path.realpath(sys.executable)) == []
    assert host.status(sleeper.pid)["NoNewPrivs"] in {"0", "1"}
    assert "pipe:" in host.descriptors(sleeper.pid)[1]
    host.end(found)
    sleeper.wait()


def test_a_stream_listener_hears_a_connection() -> None:
    listener = host.Listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    try:
        assert not listener.heard()
        with socket.create_connection(listener.address) as caller:
            caller.send(b"hello")
        assert listener.heard()
        assert b"connected" in listener.said
    finally:
        listener.close()


def test_a_datagram_listener_hears_a_datagram() -> None:
    listener = host.Listener(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"hello", listener.address)
        assert listener.heard()
        assert listener.said == [b"hello"]
    finally:
        listener.close()


def test_what_a_host_offers_is_said_or_missing() -> None:
    assert (host.offers("root") is None) is (os.geteuid() == 0)
    assert (host.offers("user") is None) is (os.geteuid() != 0)
    assert "compiler" in (host.offers("cc", ("no-such-compiler",)) or "")
    with pytest.raises(ValueError, match="no such need"):
        host.offers("luck")


def test_shared_memory_is_made_and_forgotten() -> None:
    number = host.shared_memory(b"x", 0x5A5A01)
    host.forget_memory(number)
    number = host.shared_memory(b"x", 0x5A5A01)
    host.forget_memory(number)
