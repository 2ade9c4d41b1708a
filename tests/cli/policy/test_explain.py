from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke


def test_paths_programs_calls_variables_addresses(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path
) -> None:
    answer = invoke(
        capsys, "policy", "explain", "workspace",
        "--path", f"{home}/.ssh/id_ed25519", "--path", "./x", "--exec", "/usr/bin/env", "--syscall", "socket",
        "--syscall", "ptrace", "--env", "PATH", "--connect", "tcp:example.org:443", "--connect", "unix:/run/x",
    )  # fmt: skip
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert f"read {home}/.ssh/id_ed25519: denied" in lines
    assert "read ./x: allowed" in lines
    assert "execute /usr/bin/env: allowed" in lines
    assert "syscall socket: allowed" in lines
    assert "  when arg0 eq 0x1" in lines
    assert "syscall ptrace: denied: nothing allows it" in lines
    assert "  to allow: syscalls: allow: [ptrace]" in lines
    assert "env PATH: allowed" in lines
    assert "connect tcp:example.org:443: denied: nothing allows it" in lines
    assert '  to allow: network: unix: ["/run/x"]' in lines
    assert any(line.startswith("  by preset:strict:") for line in lines)


def test_writing(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert invoke(capsys, "policy", "explain", "workspace", "--path", "x", "--write").code == 0
    answer = invoke(capsys, "policy", "explain", "workspace", "--path", ".git/hooks/a", "--write")
    assert answer.code == 1
    assert "protected: it may be read and never changed" in answer.out


def test_links_are_followed(capsys: pytest.CaptureFixture[str], workspace: Path, home: Path) -> None:
    (workspace / "key").symlink_to(home / ".ssh/id_ed25519")
    assert invoke(capsys, "policy", "explain", "workspace", "--path", "key").code == 1


def test_json(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", "--path", "x", "--syscall", "kill", "--json")
    value = json.loads(answer.out)
    assert [(row["asked"], row["allowed"]) for row in value] == [("read x", True), ("syscall kill", True)]
    assert value[0]["rule"]["file"] == "preset:workspace"


def test_a_summary_when_nothing_is_asked(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace")
    assert answer.code == 0
    assert "private:   /tmp, /var/tmp, /dev/shm" in answer.out.splitlines()
    assert json.loads(invoke(capsys, "policy", "explain", "strict", "--json").out)["write"][0] == "/dev/null"


def test_addresses_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", "--connect", "example.org")
    assert answer.code == 2
    assert "expected tcp:HOST:PORT or unix:/PATH" in answer.err
