from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from capsem.errors import MachineError, NotFoundError, UsageError
from capsem.processes.monitor import looking
from capsem.sdk import watching
from capsem.sdk.watching import AsyncWatchHandle, FilesystemEvent, FilesystemEventType, event_of, root_of
from tests.capsem.sdk.test_async_sandbox import box

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]
IS = FilesystemEventType


@pytest.fixture(autouse=True)
def agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "AGENT", str(Path(sys.prefix, "bin/capsem-agent")))


async def events(handle: AsyncWatchHandle, count: int) -> list[FilesystemEvent]:
    found: list[FilesystemEvent] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await handle.get_new_events()
            await asyncio.sleep(0.02)
    return found


async def test_what_changes_in_a_directory(tmp_path: Path) -> None:
    place = tmp_path / "watched"
    (place / "below").mkdir(parents=True)
    (place / "old").touch()
    async with box(tmp_path) as sandbox:
        handle = await sandbox.files.watch_dir(str(place), user=os.getuid())
        assert await handle.get_new_events() == []
        (place / "new\nline\x1b").write_text("x")
        (place / "below/deep").touch()
        (place / "old").chmod(0o600)
        (place / "old").rename(place / "newer")
        (place / "newer").unlink()
        assert await events(handle, 4) == [
            FilesystemEvent("new\nline\x1b", IS.CREATE),
            FilesystemEvent("old", IS.CHMOD),
            FilesystemEvent("newer", IS.RENAME, "old"),
            FilesystemEvent("newer", IS.REMOVE),
        ]
        await handle.stop()


async def test_and_below_it_told_as_it_comes(tmp_path: Path) -> None:
    place = tmp_path / "watched"
    (place / "below").mkdir(parents=True)
    told: list[FilesystemEvent] = []
    ends: list[Exception | None] = []
    async with box(tmp_path) as sandbox:
        handle = await sandbox.files.watch_dir(
            str(place), told.append, ends.append, recursive=True, user=os.getuid()
        )
        (place / "below/deep").write_text("x")
        async with asyncio.timeout(10):
            while not told:
                await asyncio.sleep(0.02)
        assert told == [FilesystemEvent("below/deep", IS.CREATE)]
        with pytest.raises(UsageError, match="on_event is told"):
            await handle.get_new_events()
        await handle.stop()
        assert ends == [None]


async def test_a_watch_ends_with_its_client_and_leaves_nothing(tmp_path: Path) -> None:
    def running() -> list[str]:
        found = []
        for one in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = one.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"watch" in line and os.fsencode(tmp_path) in line:
                found.append(one.parent.name)
        return found

    async with box(tmp_path) as sandbox:
        handle = await sandbox.files.watch_dir(str(tmp_path), user=os.getuid())
        assert len(running()) == 1
        await handle.stop()
        async with asyncio.timeout(5):
            while running():
                await asyncio.sleep(0.02)


async def test_what_is_no_directory_is_not_watched(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with box(tmp_path) as sandbox:
        for name in ("file", "nothing", "--below"):
            with pytest.raises(NotFoundError, match="no directory that can be watched"):
                await sandbox.files.watch_dir(f"{tmp_path}/{name}", user=os.getuid())


async def test_a_watch_that_ends_by_itself_says_so_after_what_it_told(tmp_path: Path) -> None:
    ends: list[Exception | None] = []
    async with box(tmp_path) as sandbox:
        handle = await sandbox.files.watch_dir(str(tmp_path), on_exit=ends.append, user=os.getuid())
        (tmp_path / "a").touch()
        async with asyncio.timeout(10):
            while handle._events.empty():
                await asyncio.sleep(0.02)
        for one in Path("/proc").glob("[0-9]*/cmdline"):
            line = one.read_bytes().split(b"\0")
            if b"watch" in line and os.fsencode(tmp_path) in line:
                os.kill(int(one.parent.name), 9)
        async with asyncio.timeout(10):
            while not ends:
                await asyncio.sleep(0.02)
        assert FilesystemEvent("a", IS.CREATE) in await handle.get_new_events()
        with pytest.raises(MachineError, match="is not watched any more: signal 9"):
            await handle.get_new_events()


async def test_who_takes_nothing_holds_no_more_than_so_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "EVENTS", 5)
    async with box(tmp_path) as sandbox:
        handle = await sandbox.files.watch_dir(str(tmp_path), user=os.getuid())
        for number in range(50):
            (tmp_path / f"{number:02d}").touch()
        await asyncio.sleep(0.6)
        assert handle._events.qsize() == 5
        names = [one.name for one in await events(handle, 50)]
        assert names == [f"{number:02d}" for number in range(50)]
        await handle.stop()


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"what": "eat", "path": "/a", "from": null}',
     b'{"what": "create", "path": 7, "from": null}', b'{"lost": "x"}', b"[" * 100_000, b"\xff",
     b'{"what": "create", "path": "/w/' + b"a" * 4093 + b'", "from": null}',
     b'{"what": "rename", "path": "/w/a", "from": "/w/' + b"a" * 4093 + b'"}'],
)  # fmt: skip
async def test_a_guest_may_tell_anything(line: bytes) -> None:
    with pytest.raises(MachineError, match="what is none"):
        event_of(line, "/w")


async def test_lines() -> None:
    assert event_of(b'{"what": "write", "path": "/w/a/b", "from": null}', "/w") == FilesystemEvent(
        "a/b", IS.WRITE
    )
    assert event_of(b'{"what": "write", "path": "/elsewhere", "from": null}', "/").name == "elsewhere"
    assert event_of(b'{"lost": 3}', "/w") == FilesystemEvent("", IS.LOST, count=3)
    assert event_of(b'{"unwatched": 2}', "/w").type is IS.LOST
    assert root_of(b'{"watching": "/w"}') == "/w"
    for wrong in (b"", b"[]", b"{}"):
        with pytest.raises(MachineError):
            root_of(wrong)
