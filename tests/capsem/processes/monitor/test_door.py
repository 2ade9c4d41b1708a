from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path

import pytest

from capsem.errors import ConflictError
from capsem.host import places
from capsem.host.link import connect
from capsem.host.operation import ask
from capsem.processes.monitor import door
from capsem.wire.frame import Credit, Data, Frame, FrameReader, Message
from capsem.wire.frame import encode as encode_frame
from capsem.wire.monitor import OUTPUT, Exec, Exited, File, Info, Status, decode_monitor, encode
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_a_monitor_says_how_its_machine_is(tmp_path: Path) -> None:
    async with standing(tmp_path):
        said = await ask(places.monitor_socket(ID), Info())
        assert isinstance(said, Status)
        assert (said.id, said.state, said.jobs, said.qemu_pid) == (ID, "running", 0, None)
        assert places.monitor_socket(ID).stat().st_mode & 0o777 == 0o600
    assert not places.monitor_socket(ID).exists()


async def test_a_stranger_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(tmp_path):
        monkeypatch.setattr(door, "is_ours", lambda connection: not isinstance(connection, object))
        reader, writer = await asyncio.open_unix_connection(places.monitor_socket(ID))
        assert await reader.read(1) == b""
        writer.close()


async def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "CONNECTIONS", 3)
    idle = []
    async with standing(tmp_path):
        for _ in range(2):
            for _ in range(3):
                idle.append(socket.socket(socket.AF_UNIX))
                idle[-1].connect(str(places.monitor_socket(ID)))
            await asyncio.sleep(0.1)
            with pytest.raises(ConflictError, match="3 operations run"):
                await ask(places.monitor_socket(ID), File("stat", "/"))
            if len(idle) == 3:
                # What waits on the guest does not keep anybody from asking how it is, or from stopping it.
                assert isinstance(await ask(places.monitor_socket(ID), Info()), Status)
        with pytest.raises(ConflictError, match="3 operations run"):
            await ask(places.monitor_socket(ID), Info())
        for one in idle:
            one.close()
        await asyncio.sleep(0.1)
        assert isinstance(await ask(places.monitor_socket(ID), Info()), Status)


async def test_who_sends_after_the_last_word_still_gets_to_read_it(tmp_path: Path) -> None:
    """A client gives credit for what it read; where that failed, the end of its command was lost to it."""
    async with standing(tmp_path) as machine:
        link = await connect(places.monitor_socket(ID))
        said = Exec(argv=("/bin/sh", "-c", "echo out; exit 5"), env={}, user=USER, cwd="/")
        await link.send(encode(said))
        started = await link.receive()
        assert isinstance(started, Message)
        while machine.jobs:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        for _ in range(3):
            await link.send(encode_frame(Credit(OUTPUT, 1)))
            assert not link.lost
            await asyncio.sleep(0.05)
        frames: list[Frame] = [started]
        while (frame := await link.receive()) is not None:
            frames.append(frame)
        ended = [decode_monitor(frame) for frame in frames if isinstance(frame, Message)][-1]
        assert isinstance(ended, Exited)
        assert ended.code == 5
        await link.close()


def deaf(asked: Exec | File) -> socket.socket:
    """A client that asks, and reads nothing: one that was stopped (SIGSTOP), seen from here."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(places.monitor_socket(ID)))
    client.sendall(encode(asked))
    return client


def shell(line: str) -> Exec:
    return Exec(argv=("/bin/sh", "-c", line), user=USER, cwd="/")


async def test_clients_that_never_read_do_not_keep_a_monitor_whose_machine_has_ended(tmp_path: Path) -> None:
    """The monitor is one call of `asyncio.run`, which returns when every task in it has."""
    large = tmp_path / "large"
    large.write_bytes(bytes(4_000_000))
    asked = (
        shell("cat /dev/zero"),
        shell("head -c 4000000 /dev/zero; exit 5"),
        shell("head -c 300000 /dev/zero; exit 5"),
        File("read", str(large), user=USER),
    )
    clients: list[socket.socket] = []

    async def life() -> None:
        async with standing(tmp_path) as machine:
            clients.extend(deaf(one) for one in asked)
            await asyncio.sleep(1.5)
            await machine.channel.__aexit__(None, None, None)

    monitor = threading.Thread(target=asyncio.run, args=(life(),), daemon=True)
    monitor.start()
    try:
        began = time.monotonic()
        while monitor.is_alive() and time.monotonic() - began < 60:
            await asyncio.sleep(0.1)
        assert len(clients) == len(asked)
        assert not monitor.is_alive(), "it is kept by who does not read"
    finally:
        for client in clients:
            client.close()


async def test_who_reads_slowly_has_the_whole_answer_of_a_machine_that_has_ended(tmp_path: Path) -> None:
    """The control: what does end a client is that it takes nothing, not that it takes its time."""
    got, size = bytearray(), 300_000
    ready = threading.Event()
    clients: list[socket.socket] = []

    async def life() -> None:
        async with standing(tmp_path) as machine:
            clients.append(deaf(shell(f"head -c {size} /dev/zero; exit 5")))
            while not machine.jobs:
                await asyncio.sleep(0.01)
            # What is left is on its way to the client, and takes it seconds, when the machine ends.
            while machine.jobs:
                await asyncio.sleep(0.01)
            ready.set()

    def read() -> None:
        while not clients:
            time.sleep(0.05)
        while data := clients[0].recv(8192):
            got.extend(data)
            time.sleep(0.2)

    reading = threading.Thread(target=read, daemon=True)
    monitor = threading.Thread(target=asyncio.run, args=(life(),), daemon=True)
    for one in (reading, monitor):
        one.start()
    until = time.monotonic() + 60
    while any(one.is_alive() for one in (reading, monitor)) and time.monotonic() < until:
        await asyncio.sleep(0.1)
    clients[0].close()
    assert not monitor.is_alive()
    assert ready.is_set()
    frames = FrameReader().feed(bytes(got))
    assert sum(len(frame.content) for frame in frames if isinstance(frame, Data)) == size
    ended = [decode_monitor(frame) for frame in frames if isinstance(frame, Message)][-1]
    assert isinstance(ended, Exited)
