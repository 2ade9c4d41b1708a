"""The verb on a workspace of a machine that the real agent stands for; the guest's directory is one of the host's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from capsem.cli import apply as verb
from capsem.cli.apply import at_the_end
from capsem.host.applying import review
from capsem.host.workspace import Workspace, look_through
from tests.capsem.host.test_workspace import project, workspace
from tests.capsem.processes.monitor.standing import standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace that was sent, and that the verb finds."""
    work = workspace(tmp_path, project(tmp_path))
    with work.held():
        packing = look_through(work.root)
        await work.send(packing)
        packing.close()

    def of(machine: Any, *, running: bool = True) -> Workspace:
        return work

    monkeypatch.setattr(Workspace, "of", of)
    return work


async def test_at_the_end_of_a_temporary_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with standing(tmp_path):
        work = await begun(tmp_path, monkeypatch)
        assert await at_the_end({}, apply=False)
        assert capsys.readouterr().err == ""
        inside = Path(work.inside)
        (inside / "src/a.py").write_text("two\n")
        assert await at_the_end({}, apply=False)
        assert "1 changes in the workspace go with the machine" in capsys.readouterr().err
        assert (work.root / "src/a.py").read_text() == "one\n"
        (inside / ".envrc").write_text("evil")
        assert not await at_the_end({}, apply=True)
        assert ".envrc   REFUSED: protected by preset:workspace" in capsys.readouterr().err
        assert (work.root / "src/a.py").read_text() == "one\n"
        (inside / ".envrc").unlink()
        assert await at_the_end({}, apply=True)
        assert (work.root / "src/a.py").read_text() == "two\n"


async def test_what_the_verb_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with standing(tmp_path):
        work = await begun(tmp_path, monkeypatch)
        inside = Path(work.inside)
        (inside / "src/a.py").write_text("two\n")
        (inside / ".envrc").write_text("evil")
        with work.held():
            found = await work.fetch()
            reviewed = review(work, found)
            verb._said(work, reviewed, [], taken=False, dry_run=False)
            told = capsys.readouterr()
            assert re.fullmatch(
                r"A \.envrc   REFUSED: protected by preset:workspace:\d+\nM src/a\.py\n", told.out
            )
            assert "1 of 2 changes are refused or in conflict: nothing was taken over" in told.err
            verb._said(work, reviewed, [], taken=False, dry_run=True)
            assert f"{work.root}: 1 changes would be taken over, 1 not" in capsys.readouterr().out
            verb._said(work, reviewed, ["d"], taken=True, dry_run=False)
            assert "d stays" in capsys.readouterr().err
            told_json = json.loads(json.dumps(verb._told(reviewed, [], taken=False)))
            assert told_json["would_take_over"] == ["src/a.py"]
            assert told_json["taken_over"] == []
