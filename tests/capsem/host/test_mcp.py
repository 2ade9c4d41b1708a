"""The file of `--mcp`: what it declares, and each mistake with its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.errors import UsageError
from capsem.host.mcp import parse, servers_of
from capsem.host.policy import network_of
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


HEADERS = "version: 1\nservers:\n  a:\n    url: https://x.example/\n    headers:\n"


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
        ("version: 1\nservers:\n  a: {command: [x], changes: ask}", 3, "changes is 'ask'"),
        ("version: 1\nservers:\n  a: {command: [x], env: {}}", 3, "unknown key 'env'"),
        ("version: 1\nservers:\n  a:\n    url: ftp://x.example/mcp", 4, "no URL that begins with https://"),
        ("version: 1\nservers:\n  a:\n    url: https://u:p@x.example/", 4, "a user or a fragment"),
        ("version: 1\nservers:\n  a:\n    url: https://x.example/#a", 4, "a user or a fragment"),
        ("version: 1\nservers:\n  a:\n    url: https://2130706433/", 4, "a spelling of the address 127.0.0.1"),
        ("version: 1\nservers:\n  a:\n    url: https://x.example:0/", 4, "no port from 1 to 65535"),
        ("version: 1\nservers:\n  a:\n    url: https://x.example/a b", 4, "ones that a URL has not"),
        ("version: 1\nservers:\n  a:\n    url: 7", 4, "not text"),
        ("version: 1\nservers:\n  a:\n    url: https://x.example/\n    command: [x]", 5, "command beside url"),
        ("version: 1\nservers:\n  a:\n    url: https://x.example/\n    policy: readonly", 5, "policy beside url"),
        ("version: 1\nservers:\n  a:\n    command: [x]\n    headers: {X-A: b}", 5, "headers without"),
        ("version: 1\nservers:\n  a:\n    url: https://x.example/\n    transport: ws", 5, "transport is 'ws'"),
        ("version: 1\nservers:\n  a:\n    url: https://x.example/\n    headers: [a]", 5, "headers"),
        (HEADERS + "      Host: b", 6, "of the transport"),
        (HEADERS + "      Mcp-Session-Id: b", 6, "transport"),
        (HEADERS + "      A b: b", 6, "no header's name"),
        (HEADERS + "      X-A: é", 6, "printable characters"),
        (HEADERS + "      X-A: b\n      x-a: c", 7, "twice"),
        (HEADERS + "      Authorization: Bearer k", 6,
         "a credential that stands in the file"),
        (HEADERS + "      X-Api-Key: k", 6, "a credential"),
        (HEADERS + "      X-A: ${HOME}", 6, "that is not"),
        (HEADERS.replace("https", "http") + "      X-A: ${secrets.k}", 6, "TLS only"),
        ("version: 1\nservers:\n  a: {command: [x]}\n  a: {command: [y]}", 4, "a"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse(text.encode(), "/home/u/mcp.yaml")
    assert any(one.line == line and why in f"{one}" for one in refused.value.problems), refused.value.problems


PLACED = """version: 1
servers:
  tracker:
    url: https://MCP.example/v1/mcp
    headers:
      Authorization: Bearer ${secrets.tracker}
      X-Team: blue
"""
POLICY = """version: 1
extends: [readonly]
network:
  hosts: [{{host: mcp.example, methods: {methods}}}]
secrets: [{{name: {name}, from: {{env: TRACKER}}, to: [{to}], as: header, field: {field}, env: T}}]
"""


def test_a_server_at_an_address() -> None:
    [tracker] = parse(PLACED.encode(), "/home/u/mcp.yaml")
    assert (tracker.url, tracker.command, tracker.policy, tracker.transport) == (
        "https://MCP.example/v1/mcp", (), "", "http",
    )  # fmt: skip
    assert tracker.headers == (("authorization", "Bearer ${secrets.tracker}"), ("x-team", "blue"))
    assert tracker.checked() is tracker
    [older] = parse(b"version: 1\nservers:\n  a: {url: 'http://a.example:81/sse', transport: sse}", "/m.yaml")
    assert (older.transport, older.headers) == ("sse", ())


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, None),
        ({"methods": "[GET]"}, "does not let it be reached"),
        ({"name": "other"}, "has no secret tracker"),
        ({"field": "X-Key"}, "does not go into the header authorization"),
    ],
)
def test_a_server_that_the_machine_would_not_reach_is_an_error_before_it_is_made(
    tmp_path: Path, changed: dict[str, str], why: str | None
) -> None:
    (tmp_path / "mcp.yaml").write_text(PLACED)
    said = {
        "methods": "[GET, POST, DELETE]",
        "name": "tracker",
        "to": "mcp.example",
        "field": "Authorization",
    }
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(**{**said, **changed}))
    network = network_of(str(policy))
    if why is None:
        assert [one["name"] for one in servers_of(tmp_path / "mcp.yaml", network)] == ["tracker"]
        return
    with pytest.raises(PolicyError, match=why) as refused:
        servers_of(tmp_path / "mcp.yaml", network)
    assert {one.line for one in refused.value.problems} == {3}


def test_a_machine_without_a_network_reaches_no_server(tmp_path: Path) -> None:
    (tmp_path / "mcp.yaml").write_text(PLACED)
    with pytest.raises(PolicyError, match=r"no host entry lists mcp\.example"):
        servers_of(tmp_path / "mcp.yaml")


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
