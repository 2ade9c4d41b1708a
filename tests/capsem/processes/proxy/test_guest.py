"""Programs of a guest: what is known of them, and what is decided of what they send by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from capsem.processes.proxy.guest import reported
from capsem.processes.proxy.relaying import declared
from capsem.wire import proxy
from capsem.wire.frame import Credit, Data
from capsem.wire.frame import encode as encode_frame
from capsule.egress.caller import Caller, trusting
from tests.capsem.processes.proxy.speaking import RULES, call
from tests.capsem.processes.proxy.standing import Standing, host
from tests.capsem.processes.proxy.test_remote import BEGIN, LIST, usual
from tests.capsem.processes.proxy.webserver import HOST, Web


def test_a_program_is_what_the_guest_says_or_nothing() -> None:
    assert reported("/usr/bin/curl", 7) == {"program": {"path": "/usr/bin/curl", "pid": 7, "name": "curl"}}
    assert reported("odd", None) == {"program": {"path": "odd", "pid": 0, "name": "odd"}}
    assert reported(None, 7) == reported("", 7) == {}


@pytest.mark.asyncio
async def test_rules_on_commands_leave_the_network_as_it_is() -> None:
    rules = (
        "version: 1\nrules:\n"
        "  - {id: a, on: process, when: 'process.name == \"rm\"', action: block}\n"
        '  - {id: b, on: [file, dns], when: \'event.type == "dns" && dns.name == "b.example"\', action: block}\n'
    )
    async with Standing(host("a.example"), host("b.example"), rules=rules) as stand:
        [ready] = [one for one in stand.said if isinstance(one, proxy.Ready)]
        assert (ready.rules, ready.problems) == (2, ())
        assert (await stand.resolve("a.example"))[0] == 0
        assert (await stand.resolve("b.example"))[0] == 3


@contextlib.asynccontextmanager
async def over_https(stand: Standing, name: str) -> AsyncIterator[Caller]:
    """A program of the guest that makes requests to a host by itself, over port 5002."""
    loop, (ours, theirs) = asyncio.get_running_loop(), socket.socketpair()
    theirs.setblocking(False)
    _, address = await stand.resolve(name)
    stream = await stand.open("tcp", address, 443)
    await stand.opened(stream)

    async def out() -> None:
        while data := await loop.sock_recv(theirs, 1 << 14):
            await stand.send(encode_frame(Data(stream, data)))

    async def back() -> None:
        while isinstance(frame := await stand.frames.get(), Data | Credit):
            if isinstance(frame, Data):
                await loop.sock_sendall(theirs, frame.content)

    moving = [asyncio.create_task(out()), asyncio.create_task(back())]
    caller = Caller(name, 443, connect=lambda: ours, trust=trusting([stand.signer.certificate]))
    try:
        yield caller
    finally:
        caller.close()
        for task in moving:
            task.cancel()
        await asyncio.gather(*moving, return_exceptions=True)
        theirs.close()


@pytest.mark.asyncio
async def test_mcp_over_a_programs_own_https_is_decided_and_recorded_and_lists_pass_as_they_come() -> None:
    async with Web(usual) as web, web.spoken(rules=RULES) as (stand, _), over_https(stand, HOST) as caller:

        async def said(message: dict[str, Any]) -> Any:
            fields = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
            async with caller.asked("POST", "/mcp", fields, json.dumps(message).encode()) as reply:
                return json.loads((await reply.whole(1 << 16)).rpartition(b"data: ")[2])

        assert "result" in await said(BEGIN)
        listed = await said(LIST)
        assert [one["name"] for one in listed["result"]["tools"]] == ["read", "delete", "pay"]
        assert (await said(call(1, "delete")))["error"]["data"]["rule"] == "no-deleting"
        assert (await said(call(2, "read")))["result"]["is"] == "done"
        assert [one["params"]["name"] for one in web.said() if one["method"] == "tools/call"] == ["read"]
        entries = [entry for entry in stand.entries if entry["type"] == "egress.mcp"]
        decided = {entry["mcp"].get("tool"): entry["decision"]["action"] for entry in entries}
        assert (decided["delete"], decided["read"]) == ("block", "allow")
        assert {entry["mcp"]["server"] for entry in entries} == {HOST}
        assert {entry["program"]["path"] for entry in entries} == {"/usr/bin/curl"}


def test_the_names_of_a_host_are_all_that_are_declared_there() -> None:
    urls = ("https://mcp.example/a", "", "https://MCP.example:8443/b", "http://10.0.0.7/")
    servers = [proxy.Server(f"s-{number}", "/mcp.yaml", 3, url=url) for number, url in enumerate(urls)]
    assert declared(servers) == {HOST: ("s-0", "s-2"), "10.0.0.7": ("s-3",)}


NAMED = """
version: 1
rules:
  - id: of-that-server
    on: mcp
    when: mcp.server == "forge" && mcp.method == "tools/call" && mcp.tool == "delete"
    action: block
"""


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
async def test_a_rule_by_a_declared_name_holds_for_what_a_program_sends_there_by_itself(kind: str) -> None:
    async with Web(usual) as web, web.spoken(rules=NAMED) as (stand, _), over_https(stand, HOST) as caller:

        async def said(message: dict[str, Any]) -> bytes:
            fields = {"content-type": kind, "accept": "application/json, text/event-stream"}
            async with caller.asked("POST", "/mcp", fields, json.dumps(message).encode()) as reply:
                return await reply.whole(1 << 16)

        refused = json.loads(await said(call(1, "delete")))
        assert refused["error"]["data"]["rule"] == "of-that-server"
        assert b"done" in await said(call(2, "read")), "the control"
        assert [one["params"]["name"] for one in web.said()] == ["read"]
        servers = {entry["mcp"]["server"] for entry in stand.entries if entry["type"] == "egress.mcp"}
        assert servers == {HOST}
