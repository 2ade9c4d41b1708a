from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capsem.cli.asking import machine_body, socket_of, variables
from capsem.errors import ConflictError, UsageError


def test_options_become_what_the_service_takes(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("version: 1")
    body = machine_body(
        image="i", cpus=2, memory="1G", disk="2G", env=["A=b=c"], rules=[str(tmp_path / "r.yaml")], name="n",
        workspace=str(tmp_path),
    )  # fmt: skip
    assert body == {
        "image": "i", "name": "n", "cpus": 2, "memory_mib": 1024, "disk_mib": 2048, "env": {"A": "b=c"},
        "rules": [{"file": str(tmp_path / "r.yaml"), "text": "version: 1"}],
        "workspace": str(tmp_path.resolve()), "network": None, "share": "copy", "mcp": [],
    }  # fmt: skip


def test_a_live_share_is_of_a_directory_that_may_be_shared(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "image": "i", "cpus": 1, "memory": "1G", "disk": "none", "env": [], "rules": [], "share": "live",
    }  # fmt: skip
    assert machine_body(**options, workspace=str(tmp_path))["share"] == "live"
    with pytest.raises(UsageError, match="/etc is not shared live"):
        machine_body(**options, workspace="/etc")
    with pytest.raises(UsageError, match="--share live without a workspace"):
        machine_body(**options)


def test_a_variable_has_a_name_and_a_value() -> None:
    assert variables(["A=", "B=x"]) == {"A": "", "B": "x"}
    for wrong in ("A", "=x", ""):
        with pytest.raises(UsageError):
            variables([wrong])


def test_of_a_machine_that_stands_the_step_that_begins_it_is_named() -> None:
    running = {"status": {"state": "running"}, "state": "running", "next_step": None, "socket": "/run/m.sock"}
    assert socket_of(running, "build") == Path("/run/m.sock")
    stands = {
        "status": None,
        "state": "suspended",
        "next_step": "capsem resume build",
        "socket": "/run/m.sock",
    }
    with pytest.raises(ConflictError, match="build is suspended") as refused:
        socket_of(stands, "build")
    assert refused.value.next_step == "capsem resume build"
    with pytest.raises(ConflictError) as refused:
        socket_of({**stands, "state": "created", "next_step": None}, "build")
    assert refused.value.next_step == "capsem start build"
