"""A directory of the host in a machine, what it is there later, and what is kept of it; by the real agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsem.errors import CapsemError, ConflictError, MachineError, UsageError
from capsem.host import places
from capsem.host.workspace import Workspace, look_through, read_tree, root_of
from capsem.wire.archive import ArchiveError
from capsem.workspace.tree import differences
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.usefixtures("capsem_home")]


def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "src/a.py").write_text("one\n")
    (root / "src/run").write_text("#!\n")
    (root / "gone").mkdir()
    (root / "gone/x").write_text("x")
    (root / ".env").write_text("secret")
    return root


def workspace(tmp_path: Path, root: Path) -> Workspace:
    """The workspace of the machine that `standing` has, in a directory that stands for the guest's."""
    if not places.session(ID).exists():
        places.session(ID).mkdir(mode=0o700, parents=True)
    machine: dict[str, Any] = {
        "id": ID, "name": None, "workspace": str(root), "status": {}, "state": "running",
        "socket": str(places.monitor_socket(ID)),
    }  # fmt: skip
    found = Workspace.of(machine)
    found.inside, found.user = str(tmp_path / "inside"), USER
    return found


@pytest.mark.asyncio
async def test_sent_changed_fetched_restored(tmp_path: Path) -> None:
    root = project(tmp_path)
    async with standing(tmp_path):
        work = workspace(tmp_path, root)
        inside = Path(work.inside)
        with work.held():
            packing = look_through(root)
            await work.send(packing)
            packing.close()
            assert not (inside / ".env").exists()
            assert work.left_out() == [(".env", "denied by preset:secret-files:8")]
            assert differences(work.base(), (await work.fetch()).tree) == []
            (inside / "src/a.py").write_text("two\n")
            (inside / "src/run").chmod(0o755)
            (inside / "gone/x").unlink()
            (inside / "gone").rmdir()
            (inside / "new").write_text("n")
            found = await work.fetch()
            changed = {one.path: one.action for one in differences(work.base(), found.tree)}
            assert changed == {
                "src/a.py": "changed", "src/run": "mode", "gone": "removed", "gone/x": "removed", "new": "added",
            }  # fmt: skip
            node = found.tree["new"]
            assert work.objects.read(node.digest, 10) == b"n"
            assert work.collect() == len("two\n") + len("n")
            with pytest.raises(MachineError, match="not kept"):
                work.objects.read(node.digest, 10)
            await work.restore(work.base())
            assert differences(work.base(), (await work.fetch()).tree) == []
            assert not (inside / "new").exists()


@pytest.mark.asyncio
async def test_two_verbs_at_once_are_refused(tmp_path: Path) -> None:
    work = workspace(tmp_path, project(tmp_path))
    with work.held(), pytest.raises(ConflictError, match="another verb"), work.held():
        raise AssertionError
    with pytest.raises(ConflictError, match="is not known"):
        work.base()


LIES: dict[str, Callable[[Path], str]] = {
    "a hard link": lambda _: "--owner=0 --files-from=/dev/null; printf x > a; ln a b; tar cf - a b",
    "a name that goes up": lambda where: f"-P {where}/../project/src/a.py",
    "an absolute name": lambda _: "-P /etc/passwd",
    "no archive": lambda _: "--version",
    "a broken archive": lambda _: "src | head -c 700",
    "new contents, then a broken end": lambda _: (
        "src; head -c 3000000 /dev/urandom > n; tar cf - n | head -c 2000000"
    ),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("lie", LIES)
async def test_a_guest_that_lies_in_its_archive_changes_nothing(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest's tar is replaced; whatever it says, the base, the store and the host's directory stay as they are."""
    root = project(tmp_path)
    async with standing(tmp_path):
        work = workspace(tmp_path, root)
        packing = look_through(root)
        await work.send(packing)
        packing.close()
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        base = (work.directory / "base.json").read_bytes()
        (tmp_path / "bin").mkdir()
        fake = tmp_path / "bin/tar"
        fake.write_text(
            f"#!/bin/sh\nPATH=/usr/bin:/bin; cd {work.inside}; tar cf - {LIES[lie](Path(work.inside))}\n"
        )
        fake.chmod(0o755)
        monkeypatch.setattr("capsem.processes.monitor.archives._ENV", {"PATH": f"{tmp_path}/bin"})
        with pytest.raises((ArchiveError, CapsemError)):
            await work.fetch()
        monkeypatch.undo()
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
        assert (work.directory / "base.json").read_bytes() == base
        assert set(work.objects) == {node.digest for node in work.base().values() if node.digest}


def test_what_is_no_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for bad in ("/", tmp_path / "f", tmp_path / "nothing", tmp_path / "home"):
        with pytest.raises(UsageError):
            root_of(bad)
    (tmp_path / "link").symlink_to(tmp_path)
    assert root_of(tmp_path / "link") == tmp_path.resolve()
    with pytest.raises(ConflictError, match="has no workspace"):
        Workspace.of({"id": ID, "name": "build", "workspace": None, "status": {}})
    with pytest.raises(ConflictError, match="build is stopped"):
        Workspace.of({"id": ID, "name": "build", "workspace": "/w", "status": None, "state": "stopped"})
    live = {"id": ID, "name": "build", "workspace": "/w", "share": "live", "status": {}}
    with pytest.raises(ConflictError, match="build shares /w live") as error:
        Workspace.of(live)
    assert "git -C /w diff" in (error.value.next_step or "")
    with pytest.raises(CapsemError, match="is not there"):
        read_tree(tmp_path / "nothing.json")


def test_a_policy_of_the_directory_holds_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    from capsule.errors import PolicyError

    root = project(tmp_path)
    (root / "capsule.yaml").write_text("version: 1\nfilesystem:\n  deny: [./src]\n")
    packing = look_through(root)
    packing.close()
    assert "src" in dict(packing.left_out)
    (root / "capsule.yaml").write_text("version: 1\nnonsense: 2\n")
    with pytest.raises(PolicyError):
        look_through(root)
