"""Unmodified programs reach what the policy lists, through interception, and nothing else; each is on the record."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.sources import ROOT
from tests.compatibility.clients import CLIENTS, Client
from tests.compatibility.world import NAMES, World

POLICY = """\
version: 1
name: compatibility
extends: [workspace, python, node, rust, git]
filesystem:
  read: [{reads}]
  execute: [{reads}]
network:
  hosts: [{hosts}]
  upstreams: [{upstreams}]
  authorities: [{authority}]
env:
  set:
    PYTHON: "{python}"
    CARGO_NET_OFFLINE: "false"
    CARGO_HOME: /tmp/cargo
    GOPATH: /tmp/go
limits: {{wall_time: 100s}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world")) as world:
        yield world


def policy(world: World, hosts: tuple[str, ...] = NAMES) -> str:
    uv = shutil.which("uv")
    reads = sorted({sys.prefix, sys.base_prefix, *([str(Path(uv).parent)] if uv else [])})
    return POLICY.format(
        reads=", ".join(f'"{path}"' for path in reads),
        hosts=", ".join(f"{{host: {host}, inspect: always}}" for host in hosts),
        upstreams=", ".join(f'{{host: {host}, address: "127.0.0.1:{world.port}"}}' for host in NAMES),
        authority=world.authority,
        python=sys.executable,
    )


def entries(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "type" in line]


def run(binary: Path, workspace: Path, client: Client, text: str) -> subprocess.CompletedProcess[str]:
    for name, content in client.files.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (workspace / "policy.yaml").write_text(text, encoding="utf-8")
    return subprocess.run(
        [binary, "run", "--policy", "./policy.yaml", "--", "sh", "-ec", client.script],
        cwd=workspace, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=150, check=False,
    )  # fmt: skip


CASES = [
    pytest.param(client, marks=pytest.mark.needs("egress", *client.needs), id=client.name)
    for client in CLIENTS
]


@pytest.mark.parametrize("client", CASES)
def test_an_unmodified_program_works(
    client: Client, world: World, capsule_binary: Path, workspace: Path
) -> None:
    host, path = client.asked
    before = len(world.requests)
    done = run(capsule_binary, workspace, client, policy(world))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert path in [asked for name, _, asked in world.requests[before:] if name == host]
    seen = [entry["http"] for entry in entries(workspace / "capsule.log") if entry["type"] == "egress.http"]
    assert any(http["host"] == host and http["path"] == path.partition("?")[0] for http in seen)


SILENT = {"curl (HTTP/2)", "git clone, fetch, push", "Go net/http", "Node fetch"}


@pytest.mark.parametrize("client", [case for case in CASES if case.id in SILENT])
def test_the_same_program_does_not_reach_what_is_not_listed(
    client: Client, world: World, capsule_binary: Path, workspace: Path
) -> None:
    """The control is the test above: the same script, the same servers, with the names listed."""
    before = len(world.requests)
    done = run(capsule_binary, workspace, client, policy(world, ("elsewhere.example",)))
    assert done.returncode != 0
    assert world.requests[before:] == []
    refused = [entry for entry in entries(workspace / "capsule.log") if entry["type"] == "egress.dns"]
    assert any(
        entry["dns"]["name"] == client.asked[0] and entry["decision"]["action"] == "block"
        for entry in refused
    )


def test_the_page_lists_every_program() -> None:
    page = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    for client in CLIENTS:
        assert f"| {client.name} | {client.does} |" in page
