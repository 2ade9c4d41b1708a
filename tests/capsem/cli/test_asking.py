from __future__ import annotations

from pathlib import Path

import pytest

from capsem.cli.asking import machine_body, variables
from capsem.errors import UsageError


def test_options_become_what_the_service_takes(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("version: 1")
    body = machine_body(
        image="i", cpus=2, memory="1G", disk="2G", env=["A=b=c"], rules=[str(tmp_path / "r.yaml")], name="n",
        workspace=str(tmp_path),
    )  # fmt: skip
    assert body == {
        "image": "i", "name": "n", "cpus": 2, "memory_mib": 1024, "disk_mib": 2048, "env": {"A": "b=c"},
        "rules": [{"file": str(tmp_path / "r.yaml"), "text": "version: 1"}],
        "workspace": str(tmp_path.resolve()), "network": None,
    }  # fmt: skip


def test_a_live_share_is_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--share live is not built.*capsem apply"):
        machine_body(
            image="i",
            cpus=1,
            memory="1G",
            disk="none",
            env=[],
            rules=[],
            workspace=str(tmp_path),
            share="live",
        )


def test_a_variable_has_a_name_and_a_value() -> None:
    assert variables(["A=", "B=x"]) == {"A": "", "B": "x"}
    for wrong in ("A", "=x", ""):
        with pytest.raises(UsageError):
            variables([wrong])
