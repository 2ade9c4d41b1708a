"""The channel against the real agent: jobs, terminals, files, limits, and a guest that lies."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from capsem.errors import MachineError
from capsem.host.channel import Channel
from capsem.host.flow import StreamResetError
from capsem.host.jobs import GuestError, Job
from capsem.wire import guest
from capsem.wire.frame import Credit, Data, End, Frame, FrameError, Reset
from capsem.wire.frame import encode as frame_bytes
from capsem.wire.guest import BULK, CONTROL, LIFECYCLE, NETWORK, PORTS, TERMINAL, stream_of
from tests.capsem.agent import agent_process, channel_to, running_agent

pytestmark = pytest.mark.asyncio
USER: dict[str, Any] = {"uid": os.getuid(), "gid": os.getgid()}
LIMIT = 64 << 20


@pytest_asyncio.fixture
async def channel(tmp_path: Path) -> AsyncIterator[Channel]:
    async with running_agent(tmp_path) as channel:
        yield channel


async def run(channel: Channel, *argv: str, **options: Any) -> tuple[bytes, bytes, guest.Exited]:
    job = await channel.exec(argv, **USER, **options)
    out, errors = await asyncio.gather(job.stdout.read_all(LIMIT), job.stderr.read_all(LIMIT))
    return out, errors, await job.wait()


async def test_a_program_runs_as_it_was_asked(channel: Channel, tmp_path: Path) -> None:
    script = 'echo "$A|$(pwd)|$(id -u)|$#"; echo wrong >&2; exit 7'
    variables = {"A": "é ü", "PATH": os.environ["PATH"]}
    out, errors, ended = await run(
        channel, "sh", "-c", script, "sh", "1", "2", env=variables, cwd=str(tmp_path)
    )
    assert out.decode() == f"é ü|{tmp_path}|{os.getuid()}|2\n"
    assert errors == b"wrong\n"
    assert (ended.code, ended.signal, ended.timed_out) == (7, None, False)
    assert ended.max_rss_bytes > 1 << 16


async def test_files_are_read_ahead_and_nothing_else_is_waited_for(channel: Channel, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    os.mkfifo(tmp_path / "pipe")
    paths = [str(tmp_path / name) for name in ("pipe", "absent", "", "file")]
    async with asyncio.timeout(60):
        await channel.prefetch([*paths, "/dev/zero"])
        assert (await run(channel, "echo", "on"))[0] == b"on\n"


async def test_it_gets_nothing_of_the_agent(channel: Channel) -> None:
    out, _, _ = await run(
        channel, "sh", "-c", "ls /proc/self/fd | wc -l; env | grep -v -e PWD -e SHLVL -e _=; echo $?"
    )
    lines = out.decode().split()
    assert int(lines[0]) <= 4  # 0, 1, 2 and ls's own directory
    told = [line.partition("=")[0] for line in lines[1:]]
    # Its account's, and a path; what the agent itself was started with is nobody's.
    assert set(told) <= {"HOME", "LOGNAME", "PATH", "USER", "0"}
    assert lines[-1] == "0"


async def test_input_reaches_it_and_ends(channel: Channel) -> None:
    job = await channel.exec(["sha256sum"], stdin=True, **USER)
    content = os.urandom(3 << 20)
    await job.stdin.write(content)
    job.stdin.end()
    assert (await job.stdout.read_all(LIMIT)).split()[0].decode() == hashlib.sha256(content).hexdigest()
    assert (await job.wait()).code == 0


async def test_output_waits_for_its_reader(channel: Channel) -> None:
    """A program that writes without end is stopped by its window, and others go on."""
    flood = await channel.exec(["cat", "/dev/zero"], **USER)
    await asyncio.sleep(0.2)
    cpu = Path(f"/proc/{flood.pid}/stat").read_text().split()[13:15]
    out, _, _ = await run(channel, "echo", "still here")
    assert out == b"still here\n"
    await asyncio.sleep(0.2)
    assert Path(f"/proc/{flood.pid}/stat").read_text().split()[13:15] == cpu
    total = 0
    while total < 8 << 20:
        total += len(await flood.stdout.read())
    flood.signal(15)
    assert (await flood.wait()).signal == 15


async def test_a_program_that_reads_nothing_stops_its_writer(channel: Channel) -> None:
    job = await channel.exec(["sleep", "30"], stdin=True, **USER)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(job.stdin.write(bytes(4 << 20)), 0.3)
    job.signal(9)
    assert (await job.wait()).signal == 9
    with pytest.raises(StreamResetError):
        await job.stdin.write(bytes(1 << 20))


async def test_a_timeout_ends_the_whole_group(channel: Channel) -> None:
    start = time.monotonic()
    out, _, ended = await run(channel, "sh", "-c", "sleep 60 & echo $!; wait", timeout_ms=200)
    assert (ended.signal, ended.timed_out) == (15, True)
    assert time.monotonic() - start < 5
    assert not Path(f"/proc/{int(out)}").exists()


async def test_one_that_ignores_the_signal_is_killed(channel: Channel) -> None:
    _, _, ended = await run(channel, "sh", "-c", "trap '' TERM; sleep 60; sleep 60", timeout_ms=100)
    assert (ended.signal, ended.timed_out) == (9, True)


async def test_a_terminal(channel: Channel) -> None:
    job = await channel.exec(
        ["sh", "-c", "tty; stty size; read a; stty size; echo [$a]; cat"], tty=(24, 80), **USER
    )

    async def until(text: bytes) -> bytes:
        seen = b""
        while text not in seen:
            seen += await asyncio.wait_for(job.stdout.read(), 10)
        return seen

    assert b"/dev/pts/" in await until(b"24 80")
    job.resize(50, 132)
    await job.stdin.write(b"typed\n")
    assert b"50 132" in await until(b"[typed]")
    job.stdin.end()  # the end of the terminal's input ends cat
    assert (await job.wait()).code == 0
    await job.stdout.read_all(LIMIT)


async def test_ctrl_c_on_a_terminal(channel: Channel) -> None:
    job = await channel.exec(["sleep", "60"], tty=(24, 80), **USER)
    await job.stdin.write(b"\x03")
    assert (await asyncio.wait_for(job.wait(), 10)).signal == 2


async def test_what_cannot_start_says_why(channel: Channel) -> None:
    wrong = (("/nowhere/x", "/", "ENOENT"), ("/etc", "/", "EACCES"), ("true", "/nowhere", "ENOENT"))
    for program, cwd, errno in wrong:
        with pytest.raises(GuestError, match="cannot start") as caught:
            await channel.exec([program], cwd=cwd, **USER)
        assert caught.value.errno == errno


async def test_descendants_do_not_hold_the_end(channel: Channel) -> None:
    job = await channel.exec(["sh", "-c", "sleep 30 & echo $!; exit 0"], stdin=True, **USER)
    assert (await asyncio.wait_for(job.wait(), 5)).code == 0
    pid = int(await job.stdout.read())
    job.abandon()
    await channel.ping()
    os.kill(pid, 9)  # a child of the agent by now, which reaps it
    until = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until, "an orphan is not reaped"
        await asyncio.sleep(0.01)


async def test_many_at_once_and_no_more(channel: Channel) -> None:
    jobs: list[Job] = [await channel.exec(["sleep", "30"], **USER) for _ in range(guest.JOB_LIMIT)]
    with pytest.raises(GuestError) as caught:
        await channel.exec(["true"], **USER)
    assert caught.value.errno == "EAGAIN"
    for job in jobs:
        job.signal(9)
    for job in jobs:
        assert (await job.wait()).signal == 9
    assert (await run(channel, "true"))[2].code == 0


async def test_files(channel: Channel, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    content = os.urandom(1 << 20)
    job = await channel.write_file(str(path), mode=0o640, **USER)
    await job.stdin.write(content)
    assert not path.exists()
    job.stdin.end()
    assert await job.result() == {"size": len(content)}
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o7777 == 0o640
    job = await channel.read_file(str(path), **USER)
    assert await job.stdout.read_all(LIMIT) == content
    assert await job.result() == {"size": len(content)}
    await channel.file("mkdir", str(tmp_path / "d/e"), recursive=True, **USER)
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(os.fsencode(tmp_path) + b"/\xff")
    about = await channel.file("stat", str(tmp_path / "link"), **USER)
    assert (about["kind"], about["target"]) == ("link", "/etc/passwd")
    listed = await channel.file("list", str(tmp_path), **USER)
    kinds = {entry["name"]: entry["kind"] for entry in listed["entries"]}
    assert kinds["\\xff"] == "fifo"
    assert (kinds["a file"], kinds["d"], kinds["link"], listed["truncated"]) == (
        "file",
        "directory",
        "link",
        False,
    )
    with pytest.raises(GuestError) as caught:
        await channel.file("remove", str(tmp_path / "d"), **USER)
    assert caught.value.errno == "ENOTEMPTY"
    await channel.file("rename", str(tmp_path / "link"), to=str(tmp_path / "d/link"), **USER)
    assert (tmp_path / "d/link").readlink() == Path("/etc/passwd"), "the link itself"
    await channel.file("rename", str(tmp_path / "d/link"), to=str(tmp_path / "link"), **USER)
    for old, new, errno in (
        ("none", "x", "ENOENT"), ("a file", "none/x", "ENOENT"), ("a file", "d", "EISDIR"), ("d", "d/e/f", "EINVAL"),
    ):  # fmt: skip
        with pytest.raises(GuestError) as caught:
            await channel.file("rename", str(tmp_path / old), to=str(tmp_path / new), **USER)
        assert caught.value.errno == errno
    await channel.file("remove", str(tmp_path / "d"), recursive=True, **USER)
    await channel.file("remove", str(tmp_path / "link"), **USER)
    assert Path("/etc/passwd").exists()
    for op, name, errno in (
        ("stat", "none", "ENOENT"),
        ("list", "a file", "ENOTDIR"),
        ("mkdir", "a file", "EEXIST"),
    ):
        with pytest.raises(GuestError) as caught:
            await channel.file(op, str(tmp_path / name), **USER)
        assert caught.value.errno == errno
    with pytest.raises(GuestError, match="directory"):
        await (await channel.read_file(str(tmp_path), **USER)).result()
    os.mkfifo(tmp_path / "pipe")
    for endless in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(GuestError) as caught:
            await asyncio.wait_for((await channel.read_file(endless, **USER)).result(), 60)
        assert caught.value.errno == "EINVAL", endless


async def test_an_abandoned_write_leaves_the_file(channel: Channel, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("as it was")
    for _ in range(40):  # on more than one processor the file's process runs beside the agent
        job = await channel.write_file(str(path), **USER)
        await job.stdin.write(b"half")
        job.abandon()
        with pytest.raises(GuestError) as caught:
            await asyncio.wait_for(job.result(), 10)
        assert caught.value.errno == "ECANCELED"
        assert path.read_text() == "as it was"
    assert sorted(name for name in os.listdir(tmp_path) if "kept" in name) == ["kept"]


async def test_nothing_runs_before_the_identity(tmp_path: Path) -> None:
    with agent_process(tmp_path):
        async with channel_to(tmp_path) as channel:
            assert (await channel.hello()).version == 1
            await channel.ping()
            ran = str(tmp_path / "ran")
            for attempt in (channel.exec(["touch", ran], **USER), channel.file("mkdir", ran)):
                with pytest.raises(GuestError) as caught:
                    await attempt
                assert caught.value.errno == "EPROTO"
            assert not (tmp_path / "ran").exists()
            ready = await channel.identify(bytes(32), "vm", 0)
            assert "exec" in ready.capabilities
            assert (await run(channel, "touch", str(tmp_path / "ran")))[2].code == 0
            assert (tmp_path / "ran").exists()
            await channel.identify(bytes(32), "vm-2", 0)  # as after a restore


async def test_it_survives_the_host(tmp_path: Path) -> None:
    with agent_process(tmp_path):
        for _ in range(3):
            async with channel_to(tmp_path) as channel:
                await asyncio.wait_for(channel.hello(), 10)
                await channel.identify(bytes(32), "vm", 0)
                job = await channel.exec(["sleep", "60"], stdin=True, **USER)
                assert (await run(channel, "echo", "x"))[0] == b"x\n"
            with pytest.raises(MachineError, match="closed"):
                await job.wait()
            until = time.monotonic() + 5
            while Path(f"/proc/{job.pid}").exists():
                assert time.monotonic() < until, "a job outlives its host"
                await asyncio.sleep(0.01)


async def test_shutdown_ends_what_runs(tmp_path: Path) -> None:
    with agent_process(tmp_path) as process:
        async with channel_to(tmp_path) as channel:
            await channel.hello()
            await channel.identify(bytes(32), "vm", 0)
            await channel.lifecycle(guest.Sync)
            job = await channel.exec(["sleep", "60"], **USER)
            await channel.lifecycle(guest.Shutdown)
            assert process.wait(5) == 0
            assert not Path(f"/proc/{job.pid}").exists()


@pytest.mark.parametrize(
    ("port", "data"),
    [
        (CONTROL, b"\xff\xff\xff\xff"),
        (CONTROL, guest.encode(guest.Signal(9, 15))),
        (CONTROL, frame_bytes(Data(4, b"x"))),
        (BULK, frame_bytes(End(stream_of(9, 0)))),
        (BULK, guest.encode(guest.Ping(1))),
        (NETWORK, guest.encode(guest.Opened(1))),
        (LIFECYCLE, guest.encode(guest.Ping(1))),
        (TERMINAL, frame_bytes(Reset(5))),
    ],
)
async def test_a_fault_of_the_host_is_said_and_the_agent_goes_on(
    tmp_path: Path, port: int, data: bytes
) -> None:
    with agent_process(tmp_path) as process:
        async with channel_to(tmp_path) as channel:
            await channel.hello()
            channel._ports[port].send(data)
            until = time.monotonic() + 5
            while channel.error is None:
                assert time.monotonic() < until, "the fault was not said"
                await asyncio.sleep(0.005)
            assert f"says on port {port}" in str(channel.error)
        assert process.poll() is None
        async with channel_to(tmp_path) as channel:
            await asyncio.wait_for(channel.hello(), 10)


def opened(number: int) -> bytes:
    return guest.encode(guest.Open(number, "tcp", "1.2.3.4", 80, None, None, None))


HELLO = guest.encode(guest.Hello(1, "0", "b", "k", ()))
LIES: list[tuple[str, int, list[bytes | Frame]]] = [
    ("not a frame", CONTROL, [b"\0\0\0\0"]),
    ("hello twice", CONTROL, [HELLO, HELLO]),
    ("ready without an identity", CONTROL, [guest.encode(guest.Ready(1, "0", "b", "k", ()))]),
    ("an answer nobody waits for", CONTROL, [guest.encode(guest.Pong(7))]),
    ("an exit of nothing", CONTROL, [guest.encode(guest.Exited(1, 0, None, False, 0, 0))]),
    ("data on control", CONTROL, [Data(4, b"x")]),
    ("data of a job that never was", BULK, [Data(stream_of(5, 1), b"x")]),
    ("a fourth stream of a job", BULK, [Data(7, b"x")]),
    ("a network stream that never was", NETWORK, [Data(1, b"x")]),
    ("a stream opened backwards", NETWORK, [opened(5),
                                            opened(4)]),
    ("data before it was let in", NETWORK, [opened(1), Data(1, b"x")]),
    ("credit from nowhere", NETWORK, [opened(1), Credit(1, 1)]),
    ("a second end", NETWORK, [opened(1), End(1), End(1)]),
    ("streams without end", NETWORK, [opened(n) for n in range(1, 600)]),
]  # fmt: skip


@pytest.mark.parametrize(("port", "said"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
async def test_a_lying_guest_ends_the_channel(port: int, said: list[bytes | Frame]) -> None:
    ours, theirs = {}, {}
    for number in PORTS:
        ours[number], theirs[number] = socket.socketpair()
    async with Channel(ours) as channel:
        theirs[port].setblocking(False)
        whole = b"".join(frame if isinstance(frame, bytes) else frame_bytes(frame) for frame in said)
        with contextlib.suppress(OSError):  # the channel may have had enough before the last of it
            await asyncio.get_running_loop().sock_sendall(theirs[port], whole)
        until = time.monotonic() + 5
        while channel.error is None:
            assert time.monotonic() < until, "the lie was believed"
            await asyncio.sleep(0.005)
        assert isinstance(channel.error, FrameError)
        with pytest.raises(FrameError):
            await channel.ping()
        await asyncio.sleep(0)
        for end in theirs.values():
            end.setblocking(True)
            end.settimeout(5)
            while True:  # every port was closed
                try:
                    if not end.recv(1 << 20):
                        break
                except ConnectionResetError:
                    break
            end.close()


@pytest.mark.parametrize(
    "said",
    [[Data(1, bytes(100_000)), Data(1, bytes(100_000))], [End(1), Data(1, b"x")]],
    ids=["window", "end"],
)
async def test_a_stream_that_was_let_in_has_its_bounds(said: list[Frame]) -> None:
    ours, theirs = socket.socketpair()
    async with Channel({NETWORK: ours}) as channel:
        theirs.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(theirs, opened(1))
        (await asyncio.wait_for(channel.opened.get(), 10)).accept()
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(theirs, b"".join(map(frame_bytes, said)))
        await asyncio.wait_for(channel.broken.wait(), 10)
        assert isinstance(channel.error, FrameError)
    theirs.close()


async def test_frames_that_are_good_for_nothing_are_read_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsem.host.channel.DROPPED", 100)
    ours, theirs = socket.socketpair()
    async with Channel({NETWORK: ours}) as channel:
        theirs.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(theirs, opened(1) + frame_bytes(Reset(1)))
        held = 0.0
        piece = frame_bytes(Reset(1)) * 5000
        for _ in range(60):
            began = time.monotonic()
            await asyncio.get_running_loop().sock_sendall(theirs, piece)
            held = max(held, time.monotonic() - began)
            if held > 0.5:
                break
        assert held > 0.5, "it is not held up"
        # It is heard all the same.
        await asyncio.get_running_loop().sock_sendall(theirs, opened(2))
        async with asyncio.timeout(60):
            while (await channel.opened.get()).number != 2:
                pass
        assert channel.error is None
    theirs.close()


async def test_a_guest_that_asks_and_does_not_read_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsem.host.channel.UNREAD", 1 << 20)
    ours, theirs = socket.socketpair()
    async with Channel({NETWORK: ours}) as channel:
        theirs.setblocking(False)

        async def refuse() -> None:
            while True:
                (await channel.opened.get()).refuse("no " * 1000)

        refusing = asyncio.create_task(refuse())
        first = 1
        for _ in range(200):
            said = b"".join(opened(first + number) for number in range(100))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.get_running_loop().sock_sendall(theirs, said)
                    while channel._guest_last[NETWORK] < first + 99 or channel._guest_streams:
                        await asyncio.sleep(0.001)
            if channel._guest_last[NETWORK] < first + 99:
                break
            first += 100
        assert 100 < first < 20_000, "its questions are taken without end"
        transport = channel._ports[NETWORK].transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 8 << 20
        refusing.cancel()
    theirs.close()


@pytest.mark.parametrize("guest_first", [True, False])
async def test_streams_that_both_sides_have_ended_count_no_more(*, guest_first: bool) -> None:
    """A guest may have 512 at once, and as many after one another as it likes: whoever ends first."""
    ours, theirs = socket.socketpair()
    async with Channel({NETWORK: ours}) as channel, asyncio.timeout(120):
        theirs.setblocking(False)
        say = functools.partial(asyncio.get_running_loop().sock_sendall, theirs)
        for number in range(1, 701):
            await say(opened(number))
            stream = await channel.opened.get()
            stream.accept()
            if guest_first:
                await say(frame_bytes(Data(number, b"?")) + frame_bytes(End(number)))
                assert await stream.incoming.read_all(10) == b"?"
            await stream.outgoing.write(b"!")
            stream.outgoing.end()
            if not guest_first:
                await say(frame_bytes(End(number)))
                assert await stream.incoming.read_all(10) == b""
            assert channel.error is None, number
        assert not channel._guest_streams
        assert not channel._outgoing
    theirs.close()


async def test_a_guest_may_give_up_what_nobody_has_taken() -> None:
    ours, theirs = {}, {}
    for number in PORTS:
        ours[number], theirs[number] = socket.socketpair()
    async with Channel(ours) as channel:
        theirs[NETWORK].setblocking(False)
        for first in range(1, 2000, 200):
            numbers = range(first, first + 200)
            said = [opened(n) for n in numbers] + [frame_bytes(Reset(n)) for n in numbers]
            await asyncio.get_running_loop().sock_sendall(theirs[NETWORK], b"".join(said))
        await asyncio.get_running_loop().sock_sendall(theirs[NETWORK], opened(2001))
        while (stream := await asyncio.wait_for(channel.opened.get(), 60)).number != 2001:
            assert channel.opened.qsize() <= 512
        assert not stream.over
        assert channel.error is None
    for end in theirs.values():
        end.close()


async def test_what_is_frozen_stands_still_and_runs_on_in_the_same_conversation(
    channel: Channel, tmp_path: Path
) -> None:
    count = "i=0; while :; do i=$((i+1)); echo $i >count; echo $i; sleep 0.01; done"
    job = await channel.exec(["/bin/sh", "-c", count], cwd=str(tmp_path), **USER)
    reading = aiter(job.stdout)
    await anext(reading)
    await asyncio.wait_for(channel.freeze(), 10)
    assert channel.frozen
    stood = (tmp_path / "count").read_text()
    # What is asked meanwhile waits, in order; nothing is lost or refused.
    waiting = asyncio.create_task(channel.exec(["/bin/echo", "later"], env={}, **USER))
    await asyncio.sleep(0.3)
    assert (tmp_path / "count").read_text() == stood
    assert not waiting.done()
    with pytest.raises(MachineError, match="frozen already"):
        await channel.freeze()
    await asyncio.wait_for(channel.thaw(time.time_ns()), 10)
    later = await asyncio.wait_for(waiting, 10)
    assert await later.stdout.read_all(100) == b"later\n"
    until = time.monotonic() + 10
    while (tmp_path / "count").read_text() == stood:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    await anext(reading)
    job.signal(9)
    assert (await job.wait()).signal == 9


async def test_after_a_restore_what_ran_is_nobody_s_and_runs_on(channel: Channel, tmp_path: Path) -> None:
    count = "i=0; while :; do i=$((i+1)); echo $i >count; sleep 0.01; done"
    job = await channel.exec(["/bin/sh", "-c", count], cwd=str(tmp_path), stdin=True, **USER)
    while not (tmp_path / "count").exists():
        await asyncio.sleep(0.01)
    await asyncio.wait_for(channel.freeze(), 10)
    # As the monitor of a restored machine: another conversation over the same ports.
    channel._held = None
    await asyncio.wait_for(channel.identify(os.urandom(32), "vm-2", time.time_ns()), 10)
    stood = (tmp_path / "count").read_text()
    until = time.monotonic() + 10
    while (tmp_path / "count").read_text() == stood:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    os.kill(job.pid, 9)


@pytest.mark.asyncio
async def test_a_directory_is_listed_a_page_at_a_time(tmp_path: Path, channel: Channel) -> None:
    place = tmp_path / "many"
    place.mkdir()
    names = sorted([f"n{number:05d}" for number in range(9000)] + ["\x1b[2J", "two\nlines", "n00001 "])
    for name in names:
        (place / name).touch()
    found: list[str] = []
    after, pages = None, 0
    while True:
        said = await channel.file("list", str(place), after=after, **USER)
        found += [entry["name"] for entry in said["entries"]]
        pages += 1
        if not said["truncated"]:
            break
        after = said["last"]
    assert (found, pages) == (names, 3)
