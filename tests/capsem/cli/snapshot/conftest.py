"""A machine that stands still, with a workspace and one snapshot, as an earlier service left it."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsem.host import places
from capsem.host.workspace import Workspace, write_file
from capsem.vm.lifecycle import State
from capsem.vm.record import Record, encode
from capsem.vm.spec import MachineSpec
from capsem.workspace import tree
from capsem.workspace.tree import Node
from tests.capsem.processes.monitor.standing import ID


def kept(work: Workspace, content: bytes) -> Node:
    """A file of the workspace."""
    with work.objects.writer() as writer:
        writer.write(content)
        return Node("file", 0o644, len(content), 0, writer.keep())


@pytest.fixture
def machine(capsem_home: Path, tmp_path: Path) -> Workspace:
    places.prepare()
    places.session(ID).mkdir(mode=0o700)
    spec = MachineSpec(name="work", disk_mib=64, workspace=str(tmp_path))
    record = Record(id=ID, spec=spec, digest="d", created="2026-01-01T00:00:00Z", state=State.STOPPED)
    (places.session(ID) / "session.json").write_bytes(encode(record))
    work = Workspace(ID, places.monitor_socket(ID), tmp_path, "work")
    work.directory.mkdir()
    work.keep_base({"a": kept(work, b"one\n")}, left_out=[])
    about = {"created": "2026-01-02T00:00:00Z"}
    write_file(work.directory / "snapshots/before.json", tree.encode({"a": kept(work, b"two\n")}, **about))
    return work
