"""The file of `--mcp`: what it declares, and each mistake with its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.errors import UsageError
from capsem.host.mcp import parse, servers_of
from capsem.vm.mcp import MOST, McpServer
from capsule.errors import PolicyError

FILE = """version: 1
servers:
  files:
    command: [python3, files.py]
  search:
    command: [node, search.js, --stdio]
    policy: ./search.yaml
    directory: ./search
    changes: pass
"""


def test_what_a_file_declares() -> None:
    files, search = parse(FILE.encode(), "/home/u/mcp.yaml")
    assert files == McpServer("files", ("python3", "files.py"), "readonly", "/home/u", "/home/u/mcp.yaml", 3)
    assert (files.changes, search.changes) == ("refuse", "pass")
    assert (search.policy, search.directory, search.line) == ("/home/u/search.yaml", "/home/u/search", 5)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("servers: {a: {command: [x]}}", 1, "does not say its version"),
        ("version: 2\nservers: {a: {command: [x]}}", 1, "version"),
        ("version: 1", 1, "declares no servers"),
        ("version: 1\nservers: {}", 2, "declares no servers"),
        ("version: 1\nservers: [a]", 2, "declares no servers"),
        ("version: 1\nserver: {}\nservers: {a: {command: [x]}}", 2, "unknown key 'server'"),
        ("version: 1\nservers:\n  A: {command: [x]}", 3, "no server's name"),
        ("version: 1\nservers:\n  a: {}", 3, "has no command"),
        ("version: 1\nservers:\n  a: {command: []}", 3, "has no command"),
        ("version: 1\nservers:\n  a: {command: x y}", 3, "a list"),
        ("version: 1\nservers:\n  a:\n    command: [x, 1]", 4, "not text"),
        ("version: 1\nservers:\n  a: {command: [x], policy: 7}", 3, "not text"),
        ("version: 1\nservers:\n  a: {command: [x], changes: ask}", 3, "changes: 'ask'"),
        ("version: 1\nservers:\n  a: {command: [x], env: {}}", 3, "unknown key 'env'"),
        ("version: 1\nservers:\n  a:\n    url: https://x.example/mcp", 4, "through the network"),
        ("version: 1\nservers:\n  a: {command: [x]}\n  a: {command: [y]}", 4, "a"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse(text.encode(), "/home/u/mcp.yaml")
    assert any(one.line == line and why in f"{one}" for one in refused.value.problems), refused.value.problems


def test_too_many_servers_and_arguments_are_refused() -> None:
    many = "version: 1\nservers:\n" + "".join(
        f"  s{number}: {{command: [x]}}\n" for number in range(MOST + 1)
    )
    with pytest.raises(PolicyError, match="33 servers"):
        parse(many.encode(), "/m.yaml")
    words = "version: 1\nservers:\n  a: {command: [" + ", ".join(["x"] * 300) + "]}"
    with pytest.raises(PolicyError, match="300 arguments"):
        parse(words.encode(), "/m.yaml")


def test_a_file_and_its_policies_are_read_before_a_machine_is_made(tmp_path: Path) -> None:
    place = tmp_path / "mcp.yaml"
    with pytest.raises(UsageError, match=r"mcp\.yaml cannot be read"):
        servers_of(place)
    os.mkfifo(place)
    with pytest.raises(UsageError, match=r"mcp\.yaml cannot be read: it is no regular file"):
        servers_of(place)
    place.unlink()
    place.write_text(FILE)
    with pytest.raises(PolicyError, match=r"search\.yaml"):
        servers_of(place)
    (tmp_path / "search.yaml").write_text("version: 1\nextends: [readonly]\nwrong: 1\n")
    with pytest.raises(PolicyError, match="wrong"):
        servers_of(place)
    (tmp_path / "search.yaml").write_text("version: 1\nextends: [readonly]\n")
    assert [one["name"] for one in servers_of(place)] == ["files", "search"]
