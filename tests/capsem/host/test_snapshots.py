"""Snapshots of a workspace in which the real agent works; kept once, put back whole, bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import ConflictError, NotFoundError, UsageError
from capsem.host import snapshots as module
from capsem.host.snapshots import Snapshots
from capsem.host.workspace import look_through
from capsem.workspace.tree import differences
from tests.capsem.host.test_workspace import project, workspace
from tests.capsem.processes.monitor.standing import standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_kept_compared_put_back_and_removed(tmp_path: Path) -> None:
    async with standing(tmp_path):
        work = workspace(tmp_path, project(tmp_path))
        inside = Path(work.inside)
        with work.held():
            packing = look_through(work.root)
            await work.send(packing)
            packing.close()
            kept = Snapshots(work)
            size = work.objects.size()
            first = await kept.create("before")
            assert (first.name, first.names, first.size) == ("before", 5, size)
            assert work.objects.size() == size, "the same contents are kept once"
            (inside / "src/a.py").write_text("two\n")
            (inside / "gone/x").unlink()
            (inside / "l").symlink_to("src")
            second = await kept.create()
            assert second.name == "s1"
            assert [one.name for one in kept.list()] == ["before", "s1"]
            assert [one.path for one in differences(kept.tree("before"), kept.tree("s1"))] == [
                "gone/x",
                "l",
                "src/a.py",
            ]
            assert await kept.revert("before") == 5
            assert differences((await work.fetch()).tree, work.base()) == []
            assert not (inside / "l").is_symlink()
            await kept.revert("s1")
            assert (inside / "src/a.py").read_text() == "two\n"
            assert (inside / "l").is_symlink()
            await kept.revert("base")
            assert (inside / "src/a.py").read_text() == "one\n"
            assert kept.remove("s1") == len("two\n")
            assert kept.remove("before") == 0, "what the base has stays"
            assert kept.list() == []
            assert work.objects.size() == size


async def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(tmp_path):
        work = workspace(tmp_path, project(tmp_path))
        with work.held():
            packing = look_through(work.root)
            await work.send(packing)
            packing.close()
            kept = Snapshots(work)
            await kept.create("one")
            for name, error in (
                ("one", ConflictError),
                ("base", ConflictError),
                ("../x", UsageError),
                ("", UsageError),
            ):
                with pytest.raises(error):
                    await kept.create(name)
            for name in ("nothing", "s1"):
                with pytest.raises(NotFoundError):
                    await kept.revert(name)
            with pytest.raises(UsageError):
                kept.tree("../base")
            with pytest.raises(UsageError):
                kept.remove("base")
            monkeypatch.setattr(module, "MOST", 1)
            with pytest.raises(ConflictError, match="there are 1 snapshots"):
                await kept.create("two")
            monkeypatch.setattr(module, "MOST", 10)
            monkeypatch.setattr(module, "STORE_LIMIT", 3)
            with pytest.raises(ConflictError, match="more than 3"):
                await kept.create("two")
            assert [one.name for one in kept.list()] == ["one"]
