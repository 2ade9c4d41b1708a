"""MCP servers of the host, used and attacked from inside a machine; judged by what the servers saw and the log says."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capsem.host import recipes  # noqa: F401 - skipped by name where capsem is not installed
from tests.capsem.serverpolicy import server_policy
from tests.vm.marks import SANDBOX, machines
from tests.vm.processes import until_gone
from tests.vm.test_machines import Home, home
from tests.vm.test_network import entries

__all__ = ["home"]
pytestmark = machines(900, *SANDBOX)
SERVER = """
import json, os, sys
TOKEN = os.environ["SERVER_TOKEN"]
lists = 0
for line in sys.stdin:
    said = json.loads(line)
    print("saw", line, end="", file=sys.stderr, flush=True)
    if "id" not in said or "method" not in said:
        continue
    method, params = said["method"], said.get("params", {})
    if method == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "t", "version": "1"}}
    elif method == "tools/list":
        lists += 1
        result = {"tools": [{"name": "length", "description": f"list {lists}", "inputSchema": {"type": "object"}}]}
    elif params.get("name") == "die":
        sys.exit(7)
    elif params.get("name") == "lie":
        for number in (999, "1", -1):
            print(json.dumps({"jsonrpc": "2.0", "id": number, "result": {"lie": True}}), flush=True)
        result = {"content": [{"type": "text", "text": "truth"}]}
    else:
        result = {"content": [{"type": "text", "text": f"{len(TOKEN)}"}]}
    print(json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": result}), flush=True)
"""
RULES = """version: 1
rules:
  - id: no-deleting
    on: mcp
    when: mcp.server == "tools" && mcp.method == "tools/call" && mcp.tool == "delete"
    action: block
    reason: nothing is deleted here
  - id: commands
    on: process
    when: process.name != ""
    action: allow
"""


def request(identity: object, method: str, **params: Any) -> bytes:
    said = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
    return json.dumps(said).encode() + b"\n"


class Stand:
    """A machine named `mcp` with one server, which holds a secret of the host."""

    def __init__(self, home: Home, directory: Path) -> None:
        self.home, self.directory = home, directory
        self.token = f"token-{secrets.token_hex(20)}"
        (directory / "tools.py").write_text(SERVER)
        server_policy(directory, f"env:\n  set: {{SERVER_TOKEN: {self.token}}}\n")
        self.file = directory / "mcp.yaml"
        command = json.dumps([sys.executable, "-I", str(directory / "tools.py")])
        self.file.write_text(
            f"version: 1\nservers:\n  tools:\n    command: {command}\n    policy: ./server.yaml\n"
        )
        self.rules = directory / "rules.yaml"
        self.rules.write_text(RULES)
        home.create("-n", "mcp", "--mcp", str(self.file), "--rules", str(self.rules))

    def ask(self, *lines: bytes, server: str = "tools", code: int = 0) -> list[dict[str, Any]]:
        """What a program inside gets that says these lines and no more."""
        said = self.home.capsem(
            "exec", "mcp", "--", "capsem", "mcp", server, given=b"".join(lines), code=code
        )
        return [json.loads(line) for line in said.splitlines()]

    def seen(self) -> str:
        """What the servers saw."""
        [session] = list(self.home.path.glob("sessions/*/mcp.log"))
        return session.read_text()

    def told(self) -> list[dict[str, Any]]:
        return [entry for entry in entries(self.home, "mcp") if entry["type"] == "egress.mcp"]


@pytest.fixture
def stand(home: Home, tmp_path: Path) -> Iterator[Stand]:
    made = Stand(home, tmp_path)
    yield made
    home.capsem("delete", "--force", "mcp")


def test_a_program_speaks_to_a_server_and_rules_decide(stand: Stand) -> None:
    answers = stand.ask(
        request(0, "initialize", protocolVersion="2025-06-18", capabilities={}),
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n',
        request("list", "tools/list"),
        request(1, "tools/call", name="length", arguments={}),
        request(2, "tools/call", name="delete", arguments={"path": "/"}),
    )
    found = {one["id"]: one for one in answers}
    assert found[0]["result"]["serverInfo"]["name"] == "t"
    assert found["list"]["result"]["tools"][0]["name"] == "length"
    assert found[1]["result"]["content"][0]["text"] == str(len(stand.token))
    refused = found[2]["error"]
    assert refused["data"]["rule"] == "no-deleting"
    assert refused["data"]["place"] == f"{stand.rules}:3"
    seen = stand.seen()
    assert '"length"' in seen, "control: what is allowed arrives"
    assert "delete" not in seen
    by_tool = {entry["mcp"].get("tool"): entry for entry in stand.told()}
    assert by_tool["length"]["decision"]["rule"]["file"] == str(stand.file)
    assert by_tool["delete"]["decision"]["action"] == "block"
    # Nobody in there started it but the agent; a client that had would be told instead.
    assert by_tool["length"]["program"]["path"] == "/capsem/capsem-agent"
    assert by_tool["length"]["program"]["reported_by"] == "guest"
    kinds = [entry["type"] for entry in entries(stand.home, "mcp")]
    assert kinds.index("machine.mcp_started") < kinds.index("egress.mcp")
    shown = stand.home.text("timeline", "mcp")
    assert "tools" in shown
    rows = json.loads(
        stand.home.capsem("query", "--json", "mcp", "SELECT server, tool FROM tool WHERE tool = 'delete'")
    )
    assert "tools" in json.dumps(rows)
    assert stand.home.capsem("verify", "mcp")


def test_the_doctor_finds_the_relay_as_it_must_be(stand: Stand) -> None:
    found = {name: outcome for name, (group, outcome) in stand.home.doctor("mcp").items() if group == "MCP"}
    assert len(found) >= 8
    assert set(found.values()) == {"passed"}


def test_a_secret_of_a_server_is_nowhere_in_the_machine(stand: Stand) -> None:
    [answer] = stand.ask(request(1, "tools/call", name="length"))
    assert answer["result"]["content"][0]["text"] == str(len(stand.token)), "control: the server has it"
    look = (
        "grep -rls -e token- /proc/[0-9]*/environ /proc/[0-9]*/cmdline /run /etc /tmp /root /home /workspace; "
        "env; mount; ls /run/capsem"
    )
    assert stand.token not in stand.home.text("exec", "--user", "0", "mcp", "--", "sh", "-c", look)
    found = stand.home.text("exec", "--user", "0", "mcp", "--", "sh", "-c", f"echo {stand.token}")
    assert stand.token in found, "control: it would be seen"


def test_what_is_not_declared_and_what_is_no_message_goes_nowhere(stand: Stand) -> None:
    [answer] = stand.ask(request(1, "tools/call", name="length"), server="other")
    assert "no MCP server other is declared" in answer["error"]["message"]
    stand.home.capsem("exec", "mcp", "--", "capsem", "mcp", "../x", code=1)
    nonsense = [
        b"\x00\xff\xfe\n",
        b"[" * 5000 + b"\n",
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}\n',
        b"[]\n",
    ]
    answers = stand.ask(*nonsense, request(5, "tools/call", name="length"))
    assert [one.get("error", {}).get("code") for one in answers] == [-32700, -32700, -32600, -32600, None]
    smuggled = json.dumps(
        {"a": '\u2028{"jsonrpc":"2.0","id":8,"method":"tools/call"}\u2028'}, ensure_ascii=False
    )
    line = f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"length","arguments":{smuggled}}}}}\n'
    assert stand.ask(line.encode())[0]["id"] == 7
    assert "\u2028" not in stand.seen()
    started = [entry for entry in entries(stand.home, "mcp") if entry["type"] == "machine.mcp_started"]
    assert {entry["server"] for entry in started} == {"tools"}


def test_a_server_that_lies_or_dies_harms_one_conversation(stand: Stand) -> None:
    [answer] = stand.ask(request(1, "tools/call", name="lie"))
    assert answer["result"]["content"][0]["text"] == "truth"
    [answer] = stand.ask(request(1, "tools/call", name="die"))
    assert "the server has ended" in answer["error"]["message"]
    [answer] = stand.ask(request(1, "tools/call", name="length"))
    assert "result" in answer
    ended = [entry["code"] for entry in entries(stand.home, "mcp") if entry["type"] == "machine.mcp_ended"]
    assert 7 in ended


def test_a_flood_of_streams_starts_only_so_many_servers(stand: Stand) -> None:
    flood = (
        "for n in $(seq 1 40); do (sleep 20 | timeout 60 capsem mcp tools >/dev/null 2>&1 &) ; done; sleep 3; "
        """printf '%s\\n' '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"length"}}' """
        "| timeout 100 capsem mcp tools; true"
    )
    said = stand.home.text("exec", "mcp", "--", "sh", "-c", flood)
    started = [entry for entry in entries(stand.home, "mcp") if entry["type"] == "machine.mcp_started"]
    assert 1 <= len(started) <= 30
    assert "MCP servers run in this machine" in said or "in a short time" in said or '"result"' in said
    # The network of the machine and the machine itself are as they were.
    assert stand.home.text("exec", "mcp", "--", "echo", "here") == "here"


def test_servers_end_with_their_machine_and_serve_again_after_it_was_suspended(stand: Stand) -> None:
    stand.ask(request(1, "tools/call", name="length"))
    script = "(sleep 600 | capsem mcp tools) & echo begun"
    stand.home.capsem("exec", "mcp", "--", "sh", "-c", f"nohup sh -c '{script}' >/dev/null 2>&1 &")
    before = running(stand)
    stand.home.capsem("suspend", "mcp")
    for pid in before:
        until_gone(pid)
    stand.home.capsem("resume", "mcp")
    [answer] = stand.ask(request(1, "tools/call", name="length"))
    assert "result" in answer
    stand.home.capsem("stop", "mcp")
    for pid in running(stand):
        until_gone(pid)
    stand.home.capsem("start", "mcp")
    [answer] = stand.ask(request(1, "tools/call", name="length"))
    assert "result" in answer


def running(stand: Stand) -> list[int]:
    """Processes of this host that run the server."""
    wanted = str(stand.directory / "tools.py").encode()
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in words and int(place.name) != os.getpid():
                found.append(int(place.name))
    return found
