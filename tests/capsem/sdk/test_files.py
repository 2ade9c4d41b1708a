from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from capsem.errors import ConflictError, MachineError, NotFoundError
from capsem.sdk import files
from capsem.sdk.files import entry_of
from tests.capsem.sdk.test_async_sandbox import box

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("capsem_home"),
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: files are those of the machine's root"),
]


async def test_what_a_name_is(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("text")
    (tmp_path / "x").chmod(0o640)
    (tmp_path / "link").symlink_to("x")
    async with box(tmp_path) as sandbox:
        about = await sandbox.files.get_info(f"{tmp_path}/x")
        link = await sandbox.files.get_info(f"{tmp_path}/link")
        with pytest.raises(NotFoundError):
            await sandbox.files.get_info(f"{tmp_path}/nothing")
    assert (about.name, about.path, about.type, about.size) == ("x", f"{tmp_path}/x", "file", 4)
    assert (about.mode, about.uid, about.gid, about.target) == (0o640, 0, 0, None)
    assert (link.type, link.target) == ("link", "x")


async def test_another_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "d/e").mkdir(parents=True)
    async with box(tmp_path) as sandbox:
        told = await sandbox.files.rename(f"{tmp_path}/a", f"{tmp_path}/d/b")
        assert (told.name, told.size) == ("b", 1)
        (tmp_path / "c").write_text("cc")
        await sandbox.files.rename(f"{tmp_path}/c", f"{tmp_path}/d/b")
        assert (tmp_path / "d/b").read_text() == "cc", "in place of what had that name"
        with pytest.raises(NotFoundError):
            await sandbox.files.rename(f"{tmp_path}/a", f"{tmp_path}/b")
        with pytest.raises(NotFoundError):
            await sandbox.files.rename(f"{tmp_path}/d", f"{tmp_path}/none/d")
        with pytest.raises(ConflictError):
            await sandbox.files.rename(f"{tmp_path}/d/e", f"{tmp_path}/ports")


async def test_directories_say_whether_they_were_made(tmp_path: Path) -> None:
    async with box(tmp_path) as sandbox:
        assert await sandbox.files.make_dir(f"{tmp_path}/a/b/c")
        assert not await sandbox.files.make_dir(f"{tmp_path}/a/b/c")
        assert await sandbox.files.make_dir(f"{tmp_path}/a/b/d")
        (tmp_path / "file").write_text("")
        with pytest.raises(ConflictError):
            await sandbox.files.make_dir(f"{tmp_path}/file")


async def test_a_large_directory_is_listed_whole(tmp_path: Path) -> None:
    place = tmp_path / "many"
    place.mkdir()
    for number in range(5000):
        (place / f"{number:05d}").touch()
    async with box(tmp_path) as sandbox:
        listed = await sandbox.files.list(str(place))
    assert [one.name for one in listed] == [f"{number:05d}" for number in range(5000)]
    assert listed[-1].path == f"{place}/04999"


@pytest.mark.parametrize("last", [None, 7, "a", ""])
async def test_a_machine_that_never_comes_to_the_last_name_is_not_asked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: object
) -> None:
    entry = {"name": "a", "kind": "file", "size": 0, "mode": 0, "mtime_ns": 0}

    async def lies(self: object, asked: object) -> dict[str, Any]:
        del self, asked
        return {"entries": [entry], "truncated": True, "last": last}

    monkeypatch.setattr(files.Files, "_ask", lies)
    async with box(tmp_path) as sandbox:
        with pytest.raises(MachineError, match="more names than the"):
            await sandbox.files.list("/")


@pytest.mark.parametrize("most", ["NAMES", "_PAGES"])
async def test_a_machine_that_has_ever_more_names_is_not_listened_to_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str
) -> None:
    asked = 0

    async def more(self: object, what: object) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        assert asked < 100
        entry = {"name": "a", "kind": "file", "size": 0, "mode": 0, "mtime_ns": 0}
        return {"entries": [entry] if most == "NAMES" else [], "truncated": True, "last": f"{asked:09d}"}

    monkeypatch.setattr(files.Files, "_ask", more)
    monkeypatch.setattr(files, most, 20, raising=False)
    async with box(tmp_path) as sandbox:
        with pytest.raises(MachineError, match="more than"):
            await sandbox.files.list("/")


@pytest.mark.parametrize(
    "untrusted", [{}, {"entries": 7}, {"entries": [7]}, {"entries": [{}]}, {"entries": None}]
)
async def test_what_a_guest_says_of_a_directory_may_be_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrusted: dict[str, Any]
) -> None:
    async def odd(self: object, what: object) -> dict[str, Any]:
        return untrusted

    monkeypatch.setattr(files.Files, "_ask", odd)
    async with box(tmp_path) as sandbox:
        with pytest.raises(MachineError, match="does not say what"):
            await sandbox.files.list("/")


async def test_files_are_written_one_after_the_other_and_read_as_they_come(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    async with box(tmp_path) as sandbox:
        await sandbox.files.write_files({f"{tmp_path}/a": "text", f"{tmp_path}/b": content})
        assert (tmp_path / "a").read_text() == "text"
        stream: AsyncIterator[bytes] = await sandbox.files.read(f"{tmp_path}/b", format="stream")
        pieces = [piece async for piece in stream]
        assert b"".join(pieces) == content
        assert len(pieces) > 1
        with pytest.raises(NotFoundError):
            _ = [piece async for piece in await sandbox.files.read(f"{tmp_path}/no", format="stream")]


@pytest.mark.parametrize(
    "untrusted", [{}, {"kind": "file", "size": "x", "mode": 1, "mtime_ns": 0}, {"kind": []}]
)
async def test_what_a_guest_says_of_a_file_may_be_anything(untrusted: dict[str, Any]) -> None:
    with pytest.raises(MachineError, match="does not say what"):
        entry_of("/a", "a", untrusted)
