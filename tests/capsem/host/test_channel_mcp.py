"""The agent's relay and the program that MCP clients start, without a machine: real sockets, real bytes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from capsem.host.channel import Channel
from capsem.host.jobs import GuestStream
from capsem.wire.guest import MCP, PORTS, Serve, encode
from tests.capsem.agent import connected, listening

pytestmark = pytest.mark.asyncio
AGENT = Path(sys.prefix, "bin/capsem-agent")


class Standing:
    """An agent with a relay, identified; `channel` has port 5003."""

    def __init__(self, directory: Path, channel: Channel) -> None:
        self.socket = directory / "run/mcp.sock"
        self.channel = channel

    async def program(self, name: str = "files") -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(AGENT), "mcp", name, "--socket", str(self.socket), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    async def stream(self) -> GuestStream:
        return await asyncio.wait_for(self.channel.opened.get(), 20)


@asynccontextmanager
async def standing(directory: Path) -> AsyncIterator[Standing]:
    relay = directory / "run/mcp.sock"
    line = [str(AGENT), "serve", "--sockets", str(directory), "--mcp", str(relay)]
    with subprocess.Popen(line) as process:
        try:
            until = time.monotonic() + 20
            while not (listening(relay) and listening(directory / f"capsem.{PORTS[-1]}")):
                assert time.monotonic() < until, "the agent does not listen"
                await asyncio.sleep(0.01)
            sockets = {port: connected(directory, port) for port in PORTS}
            async with Channel(sockets) as channel:
                await asyncio.wait_for(channel.hello(), 20)
                ready = await asyncio.wait_for(channel.identify(os.urandom(32), "vm-1", time.time_ns()), 20)
                assert "mcp" in ready.capabilities
                transport = channel._ports[MCP].transport
                assert transport is not None
                transport.write(encode(Serve()))
                yield Standing(directory, channel)
        finally:
            process.kill()


async def test_bytes_pass_both_ways_and_the_name_comes_first(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        program = await stand.program()
        assert program.stdin is not None
        assert program.stdout is not None
        body = os.urandom(600_000)
        program.stdin.write(body)
        stream = await stand.stream()
        assert (stream.port, stream.opened.kind, stream.opened.uid) == (MCP, "mcp", os.getuid())
        assert stream.opened.pid == program.pid
        stream.accept()
        got = bytearray()
        async with asyncio.timeout(60):
            while len(got) < len(body) + 6:
                got += await stream.incoming.read()
            assert got == b"files\n" + body

            async def back() -> None:
                for at in range(0, len(body), 50_000):
                    await stream.outgoing.write(body[at : at + 50_000])

            writing = asyncio.create_task(back())
            assert await program.stdout.readexactly(len(body)) == body
            await writing
            program.stdin.close()
            assert await stream.incoming.read() == b""
            stream.outgoing.end()
            assert await program.wait() == 0


async def test_a_program_that_the_host_ends_says_so(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        for how in ("refuse", "reset", "end"):
            program = await stand.program()
            stream = await stand.stream()
            if how == "refuse":
                stream.refuse("no")
            else:
                stream.accept()
                await asyncio.wait_for(stream.incoming.read(), 20)
                stream.reset() if how == "reset" else stream.outgoing.end()
            assert program.stderr is not None
            said = await asyncio.wait_for(program.stderr.read(), 20)
            assert b"the host has ended the MCP server files" in said, how
            assert await program.wait() == 1


async def test_a_killed_program_ends_its_stream_alone(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        first, second = await stand.program("a"), await stand.program("b")
        streams = [await stand.stream(), await stand.stream()]
        for stream in streams:
            stream.accept()
        names = [await asyncio.wait_for(stream.incoming.read(), 20) for stream in streams]
        assert sorted(names) == [b"a\n", b"b\n"]
        first.kill()
        gone, stays = streams if names[0] == b"a\n" else reversed(streams)
        assert await asyncio.wait_for(gone.incoming.read(), 20) == b""
        assert second.stdin is not None
        second.stdin.write(b"more")
        assert await asyncio.wait_for(stays.incoming.read(), 20) == b"more"
        second.kill()
        await asyncio.gather(first.wait(), second.wait())


async def test_only_so_many_streams_are_open_and_the_rest_waits(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        connections = []
        for _ in range(100):
            _, writer = await asyncio.open_unix_connection(str(stand.socket))
            connections.append(writer)
        opened = [await stand.stream() for _ in range(64)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stand.channel.opened.get(), 0.5)
        opened[0].refuse("no")
        assert (await stand.stream()).number == 65
        for writer in connections:
            writer.close()


async def test_before_the_host_serves_nothing_is_said_and_without_a_relay_the_program_says_so(
    tmp_path: Path,
) -> None:
    async with standing(tmp_path) as stand:
        await asyncio.wait_for(stand.channel.identify(os.urandom(32), "vm-1", time.time_ns()), 20)
        program = await stand.program()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stand.channel.opened.get(), 0.5)
        transport = stand.channel._ports[MCP].transport
        assert transport is not None
        transport.write(encode(Serve()))
        assert (await stand.stream()).opened.kind == "mcp"
        program.kill()
        await program.wait()
    lost = subprocess.run(
        [str(AGENT), "mcp", "files", "--socket", str(tmp_path / "none")], capture_output=True, check=False
    )
    assert lost.returncode == 1
    assert b"no MCP relay at" in lost.stderr
