"""A machine whose QEMU stands still: whoever works in it is told so in time, and it goes on afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem import AsyncSandbox
from capsem.errors import MachineError
from tests.vm.marks import machines
from tests.vm.processes import qemus_of
from tests.vm.test_crashes import begun, until
from tests.vm.test_lives import answered, types
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(1200)


@pytest.fixture
def hung(home: Home, tmp_path: Path) -> Iterator[str]:
    """A machine with a workspace and a snapshot of it, which stands still."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "a").write_text("a\n")
    home.create("-n", "hung", "--workspace", str(work))
    home.capsem("snapshot", "create", "hung", "before")
    home.capsem("exec", "hung", "--", "sh", "-c", "echo b >b; mkdir d; echo c >d/c")
    (qemu,) = qemus_of(home.path)
    os.kill(qemu, signal.SIGSTOP)
    try:
        yield "hung"
        os.kill(qemu, signal.SIGCONT)
        assert home.text("exec", "hung", "--", "cat", "b") == "b", "it goes on"
        home.capsem("cp", "hung:/workspace/b", str(tmp_path / "b"))
        assert (tmp_path / "b").read_text() == "b\n"
    finally:
        answered(home, "delete", "--force", "hung")


async def by_the_sdk(home: Home, machine: str) -> list[BaseException]:
    """What the files' interface raises."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPSEM_HOME", str(home.path))
        sandbox = await AsyncSandbox.connect(machine)
        work = (
            sandbox.files.read("/workspace/a"), sandbox.files.write("/workspace/x", b"x"),
            sandbox.files.list("/workspace"),
        )  # fmt: skip
        found = await asyncio.gather(*work, return_exceptions=True)
    return [one for one in found if isinstance(one, BaseException)]


def test_every_work_on_files_ends_with_what_is_wrong(home: Home, hung: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(3_000_000))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/one").write_bytes(os.urandom(3_000_000))
    asked = [
        ("cp", f"{hung}:/workspace/a", str(tmp_path / "out")),
        ("cp", str(tmp_path / "file"), f"{hung}:/root/file"),
        ("cp", "-r", f"{hung}:/workspace", str(tmp_path / "tree-out")),
        ("cp", "-r", str(tmp_path / "tree"), f"{hung}:/root/tree"),
        ("diff", hung),
    ]
    at_work = [(words, begun(home, *words)) for words in asked]
    raised = asyncio.run(by_the_sdk(home, hung))
    assert len(raised) == 3
    for error in raised:
        assert isinstance(error, MachineError)
        assert "the machine does not answer" in str(error)
    for words, process in at_work:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 125, (words, said)
        assert b"the machine does not answer" in said, (words, said)
        assert b"capsem stop --force" in said, (words, said)
    # One verb at a time works on a workspace.
    code, said_too = answered(home, "snapshot", "create", hung, "after")
    assert code == 125
    assert "the machine does not answer" in said_too
    assert "after" not in home.text("snapshot", "list", hung)
    for name in ("out", "tree-out"):
        assert not (tmp_path / name).exists(), "nothing half-done is left"
    # It is asked about and told apart meanwhile.
    assert home.info(hung)["state"] == "running"


def test_a_command_that_has_no_end_is_told_that_its_machine_hangs(home: Home) -> None:
    home.create("-n", "still")
    try:
        # What says nothing for longer than a machine that hangs is waited for is at work, and is let be.
        work = begun(home, "exec", "still", "--", "sh", "-c", "sleep 100; echo done")
        until(lambda: home.info("still")["status"]["jobs"] == 1, "nothing runs")
        out, said = work.communicate(timeout=300)
        assert (work.returncode, out) == (0, b"done\n"), said
        endless = begun(home, "exec", "still", "--", "sleep", "100000")
        until(lambda: home.info("still")["status"]["jobs"] == 1, "nothing runs")
        (qemu,) = qemus_of(home.path)
        os.kill(qemu, signal.SIGSTOP)
        _, complaint = endless.communicate(timeout=200)
        assert endless.returncode == 125
        assert b"the machine does not answer: nothing came within 60 s" in complaint
        assert b"capsem stop --force" in complaint
        info = home.info("still")
        assert (info["state"], info["status"]["jobs"]) == ("running", 0)
        assert "its agent has not answered for" in info["problem"]
        assert "capsem stop --force still, capsem start still" in info["next_step"]
        os.kill(qemu, signal.SIGCONT)
        until(lambda: home.info("still")["problem"] is None, "it is not said that it answers again")
        gone = "! grep -qx sleep /proc/[0-9]*/comm 2>/dev/null"
        until(
            lambda: answered(home, "exec", "still", "--", "sh", "-c", gone)[0] == 0, "it runs on for nobody"
        )
        kinds = types(info["log"])
        assert (kinds.count("machine.unanswered"), kinds.count("machine.answers")) == (1, 1)
    finally:
        answered(home, "delete", "--force", "still")
