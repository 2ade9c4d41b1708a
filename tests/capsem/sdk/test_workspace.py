"""The workspace through the SDK, against a monitor with the real agent; the guest's directory is one of the host's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capsem.errors import ConflictError
from capsem.host.workspace import Workspace, look_through
from capsem.sdk.workspace import Applied, AsyncWorkspace
from tests.capsem.host.test_workspace import project, workspace
from tests.capsem.processes.monitor.standing import standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_diff_apply_and_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(tmp_path):
        work = workspace(tmp_path, project(tmp_path))
        with work.held():
            packing = look_through(work.root)
            await work.send(packing)
            packing.close()

        def of(machine: Any, *, running: bool = True) -> Workspace:
            return work

        monkeypatch.setattr(Workspace, "of", of)
        inside, sdk = Path(work.inside), AsyncWorkspace({})
        assert await sdk.diff() == []
        assert (await sdk.snapshot("before")).name == "before"
        (inside / "src/a.py").write_text("two\n")
        (inside / ".envrc").write_text("evil")
        assert [one.path for one in await sdk.diff()] == [".envrc", "src/a.py"]
        with pytest.raises(ConflictError, match=r"nothing was taken over; \.envrc: protected"):
            await sdk.apply()
        why = (await sdk.apply(dry_run=True)).refused
        assert [(name, reason.rpartition(":")[0]) for name, reason in why.items()] == [
            (".envrc", "protected by preset:workspace")
        ]
        assert await sdk.apply(dry_run=True) == Applied(("src/a.py",), why, {}, dry_run=True)
        assert (work.root / "src/a.py").read_text() == "one\n"
        assert await sdk.apply(skip=True) == Applied(("src/a.py",), why, {})
        assert (work.root / "src/a.py").read_text() == "two\n"
        await sdk.revert("before")
        assert (inside / "src/a.py").read_text() == "one\n"
        assert [one.name for one in sdk.snapshots()] == ["before"]
        sdk.remove_snapshot("before")
        assert sdk.snapshots() == []


async def test_a_machine_without_one() -> None:
    sdk = AsyncWorkspace({"id": "m-00000001", "name": "build", "workspace": None, "status": {}})
    with pytest.raises(ConflictError, match="build has no workspace"):
        await sdk.diff()
