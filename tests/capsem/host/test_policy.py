from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from capsem.errors import UsageError
from capsem.host.policy import network_of
from capsule.egress.frames import Egress
from capsule.errors import PolicyError

TEXT = """version: 1
name: p
extends: [strict]
network:
  hosts: [{host: a.example, methods: [GET]}]
  authorities: [./ca.pem]
rules: [./rules.yaml]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(TEXT)
    (tmp_path / "ca.pem").write_text("a certificate")
    (tmp_path / "rules.yaml").write_text("version: 1\nrules: []\n")
    return tmp_path


def test_the_policy_is_compiled_with_the_files_it_names(here: Path) -> None:
    found = network_of("./p.yaml")
    plan = msgspec.convert(found["egress"], Egress)
    assert [(entry.host, entry.methods) for entry in plan.hosts] == [("a.example", ("GET",))]
    assert {one["path"]: one["text"] for one in found["sources"]} == {
        str(here / "ca.pem"): "a certificate", str(here / "rules.yaml"): "version: 1\nrules: []\n",
    }  # fmt: skip
    assert found["policy"] == "./p.yaml"
    assert found["digest"].startswith("blake3:")


def test_a_file_that_is_not_there_is_named(here: Path) -> None:
    (here / "rules.yaml").unlink()
    with pytest.raises(UsageError, match=r"rules\.yaml, which the policy names"):
        network_of("./p.yaml")


def test_a_network_without_walls_is_refused(here: Path) -> None:
    (here / "p.yaml").write_text("version: 1\nname: p\nextends: [strict]\nnetwork: {mode: open}\n")
    with pytest.raises(UsageError, match="has walls"):
        network_of("./p.yaml")
    (here / "p.yaml").write_text("version: 1\nname: p\nextends: [strict]\n")
    with pytest.raises(UsageError, match="no hosts"):
        network_of("./p.yaml")
    (here / "p.yaml").write_text("version: 1\nname: p\nnetwork: {hosts: [http://a]}\n")
    with pytest.raises(PolicyError):
        network_of("./p.yaml")
