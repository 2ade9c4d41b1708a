"""What a guest tells of itself, over the channel: the real agent, and a guest that tells without end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from capsem.host.channel import Channel
from capsem.host.jobs import GuestError
from capsem.host.reports import MOST
from capsem.wire import guest
from capsem.wire.guest import CONTROL, LIFECYCLE, PORTS, Change, Lost, Report
from tests.capsem.agent import agent_process, channel_to, running_agent

pytestmark = pytest.mark.asyncio
USER: dict[str, Any] = {"uid": os.getuid(), "gid": os.getgid()}


async def until(channel: Channel, told: list[Report], name: str) -> None:
    """Take what is told until there is such a path in it."""
    async with asyncio.timeout(120):
        while not any(isinstance(one, Change) and one.path.endswith(name) for one in told):
            told += await channel.reports.taken()


async def shell(channel: Channel, line: str, cwd: Path) -> None:
    job = await channel.exec(["sh", "-c", line], cwd=str(cwd), **USER)
    assert (await job.wait()).code == 0


async def test_changes_are_told_once_and_with_their_names(tmp_path: Path) -> None:
    place = tmp_path / "work"
    place.mkdir()
    async with running_agent(tmp_path) as channel:
        # What is not there yet is seen when it is made.
        await channel.watch(changes=[str(place), str(tmp_path / "later")])
        await shell(
            channel, "mkdir d; for n in 1 2 3; do echo $n >d/a; done; mv d/a b; chmod 600 b; rm b", place
        )
        await shell(channel, "mkdir ../later; echo x >../later/x; echo x >../beside; ln -s b last", place)
        told: list[Report] = []
        await until(channel, told, "/last")
        await until(channel, told, "/later/x")
        short = [
            (one.what, one.path.replace(str(tmp_path), ""), (one.from_ or "").replace(str(tmp_path), ""))
            for one in told
            if isinstance(one, Change)
        ]
        assert short[0] == ("create", "/work/d", "")
        assert {("create", "/work/last", ""), ("create", "/later", ""), ("create", "/later/x", "")} <= set(
            short
        )
        assert ("remove", "/work/b", "") in short
        assert len(set(short)) == len(short)
        assert not [path for _, path, _ in short if "beside" in path]
        # In its place: nothing.
        await channel.watch()
        channel.reports.rest()
        await shell(channel, "echo x >unseen", place)
        await channel.lifecycle(guest.Sync)
        assert channel.reports.rest() == []


async def test_everything_is_told_before_it_stands_still_and_the_watch_outlives_identity_and_host(
    tmp_path: Path,
) -> None:
    place = tmp_path / "work"
    place.mkdir()
    told: list[Report] = []
    with agent_process(tmp_path):
        async with channel_to(tmp_path) as channel:
            await channel.hello()
            await channel.watch(changes=[str(place)])
            # Before the identity it is nobody's.
            (place / "early").write_text("x")
            await channel.identify(os.urandom(32), "vm-1", time.time_ns())
            (place / "first").write_text("x")
            await channel.freeze()
            told += channel.reports.rest()
            assert [one.path for one in told if isinstance(one, Change)] == [str(place / "first")]
            # As the monitor of a restored machine.
            channel._held = None
            await channel.identify(os.urandom(32), "vm-2", time.time_ns())
            (place / "second").write_text("x")
            told.clear()
            await until(channel, told, "/second")
            assert not [one for one in told if isinstance(one, Change) and one.path.endswith("/first")]
        (place / "away").write_text("x")
        async with channel_to(tmp_path) as channel:
            await channel.hello()
            (place / "third").write_text("x")
            told.clear()
            await until(channel, told, "/third")


async def test_what_it_cannot_tell_is_refused(tmp_path: Path) -> None:
    async with running_agent(tmp_path) as channel:
        with pytest.raises(GuestError, match="cannot report") as caught:
            await channel.watch(processes=True)
        assert caught.value.errno == "EOPNOTSUPP"


async def test_a_guest_that_tells_without_end_is_not_read_on_and_delays_no_other_port() -> None:
    ours, theirs = {}, {}
    for number in PORTS:
        ours[number], theirs[number] = socket.socketpair()
        theirs[number].setblocking(False)
    loop = asyncio.get_running_loop()
    async with Channel(ours) as channel:
        report = guest.encode(Lost("changes", 1))
        flood = asyncio.create_task(loop.sock_sendall(theirs[LIFECYCLE], report * 2_000_000))
        while not channel.reports._paused:
            await asyncio.sleep(0)
        # One reading is the most that can come with the last one.
        assert len(channel.reports._waiting) <= MOST + (1 << 18) // len(report) + 1
        waiting = len(channel.reports._waiting)
        for number in range(1, 20):
            ping = asyncio.create_task(channel.ping())
            assert await asyncio.wait_for(loop.sock_recv(theirs[CONTROL], 4096), 60)
            await loop.sock_sendall(theirs[CONTROL], guest.encode(guest.Pong(number)))
            await asyncio.wait_for(ping, 60)
        assert len(channel.reports._waiting) == waiting
        assert not flood.done()
        assert len(await channel.reports.taken()) == waiting
        # It is read on once what waited was taken.
        assert await asyncio.wait_for(channel.reports.taken(), 60)
        assert channel.error is None
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
    for end in theirs.values():
        end.close()
