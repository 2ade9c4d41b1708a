"""Servers as values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capsem.errors import UsageError
from capsem.vm.mcp import MOST, McpServer
from capsem.vm.spec import MachineSpec

SERVER = McpServer("files", ("python3", "x.py"), "readonly", "/home/u", "/home/u/mcp.yaml", 3)


def test_a_server_that_makes_sense_is_itself() -> None:
    assert SERVER.checked() is SERVER
    assert MachineSpec(mcp=(SERVER, replace(SERVER, name="other"))).checked().mcp[1].name == "other"


PLACED = McpServer(
    "forge", (), "", "", "/home/u/mcp.yaml", 3,
    url="https://mcp.example/mcp", headers=(("authorization", "Bearer ${secrets.forge}"),),
)  # fmt: skip


def test_a_server_at_an_address_makes_sense_without_a_command() -> None:
    assert PLACED.checked() is PLACED


@pytest.mark.parametrize(
    "changed",
    [
        {"command": ("x",)}, {"policy": "readonly"}, {"directory": "/"}, {"url": "https://"}, {"url": "file:///etc"},
        {"url": "http://mcp.example/"}, {"headers": (("Authorization", "Bearer ${secrets.forge}"),)},
        {"headers": (("authorization", "Bearer abc"),)}, {"headers": (("x-a", "b\r\nc: d"),)},
        {"headers": (("x-a", "b"), ("x-a", "c"))}, {"headers": (("host", "other.example"),)},
        {"headers": tuple((f"x-{n}", "b") for n in range(17))}, {"transport": "ws"},
    ],
)  # fmt: skip
def test_a_server_at_an_address_that_makes_none_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="no MCP server"):
        replace(PLACED, **changed).checked()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"name": ""}, {"name": "A"}, {"name": "-a"}, {"name": "a" * 64}, {"name": "a\n"}, {"command": ()},
        {"command": ("",)}, {"command": ("a\0",)}, {"policy": ""}, {"directory": "relative"},
        {"headers": (("x-a", "b"),)},
    ],
)  # fmt: skip
def test_one_that_makes_none_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="no MCP server"):
        replace(SERVER, **changed).checked()  # type: ignore[arg-type]


def test_names_are_unique_and_servers_few() -> None:
    with pytest.raises(UsageError, match="MCP servers: 2"):
        MachineSpec(mcp=(SERVER, SERVER)).checked()
    many = tuple(replace(SERVER, name=f"s{number}") for number in range(MOST + 1))
    with pytest.raises(UsageError, match=f"MCP servers: {MOST + 1}"):
        MachineSpec(mcp=many).checked()
