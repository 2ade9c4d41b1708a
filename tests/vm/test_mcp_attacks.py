"""A guest and a server that attack what is between them; judged from the host, with a call that works beside each."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from capsem.host import recipes  # noqa: F401 - skipped by name where capsem is not installed
from tests.vm.marks import SANDBOX, machines
from tests.vm.served import Stand, request, stand
from tests.vm.test_crashes import children_of
from tests.vm.test_hostile import use
from tests.vm.test_machines import Home, home
from tests.vm.test_network import entries

__all__ = ["home", "stand"]
pytestmark = machines(900, *SANDBOX)


def works(stand: Stand) -> None:
    """The control: the same machine calls a tool."""
    [answer] = stand.ask(request(1, "tools/call", name="length"))
    assert answer["result"]["content"][0]["text"] == str(len(stand.token))


def proxy_of(home: Home) -> int:
    """The machine's proxy."""
    monitor = home.info("mcp")["status"]["pid"]
    return max(children_of(monitor, "capsem.processes.proxy"), key=lambda pid: use(pid).memory)


def test_messages_without_end_and_without_form(stand: Stand) -> None:
    works(stand)
    begin, end = '{"jsonrpc":"2.0","id":1,"method":"', '"}'
    listed = '[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete"}}]'
    answered = '{"jsonrpc":"2.0","id":1,"result":{}}'
    filler = "head -c {} /dev/zero | tr '\\0' {}"
    hostile = {
        "a line without an end": filler.format(300_000_000, "a"),
        "a giant message": f"printf %s '{begin}'; {filler.format(3_000_000, 'a')}; echo '{end}'",
        "lists": f"yes '{listed}' | head -n 100",
        "depth": f"{filler.format(1_000_000, '[')}; echo",
        "answers": f"yes '{answered}' | head -n 100",
        "lines of nothing": "yes '' | head -c 3000000",
    }
    for name, say in hostile.items():
        command = f"({say}) 2>/dev/null | timeout 120 capsem mcp tools 2>/dev/null | tail -c 2000; true"
        said = stand.home.text("exec", "mcp", "--", "sh", "-c", command)
        assert '"result"' not in said, name
        works(stand)
    seen = stand.seen()
    assert "delete" not in seen
    assert len(seen) < 100_000, "nothing of it came to the server"
    faults = [
        entry["mcp"].get("error", "") for entry in stand.told() if entry["decision"]["by"] == "protocol"
    ]
    assert len(faults) < 200, "a stream ends after some"
    assert any("1048576 bytes" in fault for fault in faults)
    assert any("a list of messages" in fault for fault in faults)
    proxy = proxy_of(stand.home)
    assert use(proxy).memory < 400 << 20
    assert stand.home.capsem("verify", "mcp")


def test_an_id_is_not_another_streams(stand: Stand) -> None:
    """Two streams with the same ids: each gets its own answers, and an answer to the other's question goes nowhere."""
    with stand.client() as one, stand.client() as other:
        one.say(request(1, "tools/call", name="length"))
        other.say(request(1, "tools/list"))
        assert "content" in one.heard()["result"]
        assert "tools" in other.heard()["result"]
        other.say(b'{"jsonrpc":"2.0","id":1,"result":{"lie":true}}\n')
        assert other.heard()["error"]["code"] == -32600
        one.say(request("1", "tools/call", name="length"))
        assert one.heard()["id"] == "1"


def test_thousands_of_connections_and_ones_that_say_nothing(stand: Stand) -> None:
    works(stand)
    perl = (
        "use Socket; $SIG{PIPE} = 'IGNORE'; my @held; for my $n (1..2000) { socket(my $s, AF_UNIX, SOCK_STREAM, 0); "
        "eval { local $SIG{ALRM} = sub { die }; alarm 1; connect($s, pack_sockaddr_un('/run/capsem/mcp.sock')) "
        "and syswrite($s, $n % 2 ? 't' : ''); alarm 0; }; push @held, $s; close shift @held if @held > 300; } "
        "print scalar(@held);"
    )
    proxy = proxy_of(stand.home)
    before = len(os.listdir(f"/proc/{proxy}/fd"))
    said = stand.home.text("exec", "mcp", "--", "timeout", "100", "perl", "-e", perl)
    assert int(said or 0) > 100, "control: there were connections"
    # Whoever says no name has ten seconds; then there is room again.
    until = time.monotonic() + 60
    while True:
        try:
            works(stand)
            break
        except (AssertionError, ValueError):  # refused as one of a flood
            assert time.monotonic() < until
    assert len(os.listdir(f"/proc/{proxy}/fd")) <= before + 8
    started = [entry for entry in entries(stand.home, "mcp") if entry["type"] == "machine.mcp_started"]
    assert len(started) < 20, "a server is started for a name alone"


def test_a_message_that_drips_holds_up_nobody_else(stand: Stand) -> None:
    drip = (
        "(for c in $(seq 1 30); do printf ' '; sleep 1; done) | timeout 60 capsem mcp tools >/dev/null 2>&1 &"
    )
    stand.home.capsem("exec", "mcp", "--", "sh", "-c", f"for n in 1 2 3; do {drip} done; sleep 1")
    began = time.monotonic()
    works(stand)
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("tool", ["huge", "flood", "die"])
def test_a_server_that_says_too_much_or_ends_harms_its_own_stream(stand: Stand, tool: str) -> None:
    works(stand)
    command = "timeout 100 capsem mcp tools | tail -c 3000"
    said = stand.home.capsem(
        "exec", "mcp", "--", "sh", "-c", command, given=request(1, "tools/call", name=tool)
    ).decode()
    if tool == "flood":
        assert "notifications/message" in said, "control: the server speaks"
    else:
        assert "no answer" in said
        assert "bytes" in said or "the server has ended" in said
    proxy = proxy_of(stand.home)
    assert use(proxy).memory < 400 << 20
    works(stand)
    assert stand.home.text("exec", "mcp", "--", "echo", "here") == "here"


def test_a_server_that_hangs_is_waited_for_and_ended_with_its_client(stand: Stand) -> None:
    with stand.client() as client:
        client.say(request(1, "tools/call", name="hang"), request(2, "tools/call", name="length"))
        works(stand)
    until = time.monotonic() + 60
    while not any(
        entry["type"] == "machine.mcp_ended" and entry["code"] != 0 for entry in entries(stand.home, "mcp")
    ):
        assert time.monotonic() < until
        time.sleep(0.5)
    lost = [entry for entry in stand.told() if "no answer" in entry["mcp"].get("error", "")]
    assert {entry["mcp"]["request_id"] for entry in lost} == {"1", "2"}


def test_what_a_server_calls_its_tools_drives_no_terminal(home: Home, tmp_path: Path) -> None:
    """Names and descriptions with escapes: what a person reads of them is plain, what the program reads is JSON."""
    stand = Stand(home, tmp_path)
    try:
        place = tmp_path / "tools.py"
        place.write_text(
            place.read_text().replace(
                '"wire": "sends, too"', r'"wi\x1b[2Jre": "x", "wire": "a\x1b]0;b\u202ec"'
            )
        )
        [answer] = stand.ask(request(1, "tools/list"))
        names = [one["name"] for one in answer["result"]["tools"]]
        assert "wire" in names
        assert len(names) == 3
        stand.ask(request(2, "tools/call", name="wire\x1b[2J"))
        for words in (("timeline", "mcp"), ("logs", "mcp"), ("timeline", "--json", "mcp")):
            assert b"\x1b[2J" not in home.capsem(*words)
        [listed] = [entry["mcp"] for entry in stand.told() if entry["mcp"]["method"] == "tools/list"]
        assert any("\x1b" in one["tool"] for one in listed["hidden"]), "control: it was there"
        assert json.dumps(listed)
    finally:
        home.capsem("delete", "--force", "mcp")
