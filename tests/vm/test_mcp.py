"""MCP servers of the host, used and attacked from inside a machine; judged by what the servers saw and the log says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from capsem.host import recipes  # noqa: F401 - skipped by name where capsem is not installed
from tests.vm.marks import SANDBOX, machines
from tests.vm.processes import until_gone
from tests.vm.served import Stand, request, stand
from tests.vm.test_machines import home
from tests.vm.test_network import entries

__all__ = ["home", "stand"]
pytestmark = machines(900, *SANDBOX)


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
    assert [one["name"] for one in found["list"]["result"]["tools"]] == ["length", "send", "wire"]
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
    [listed] = [entry["mcp"] for entry in stand.told() if entry["mcp"]["method"] == "tools/list"]
    assert (listed["tools_listed"], listed["tools_hidden"], listed["hidden"][0]["tool"]) == (4, 1, "delete")
    shown = stand.home.text("timeline", "mcp")
    assert "capsem-agent (guest) tools delete" in shown
    assert "nothing is deleted here (rule no-deleting" in shown
    assert "1 of 4 tools are not shown" in shown
    story = json.loads(stand.home.capsem("timeline", "--json", "mcp"))["story"]
    [called] = [one for one in story if "tools length" in one["names"]]
    assert (called["what"], called["took_us"] > 0) == ("used", True)
    asked = (
        "SELECT t.tool, t.duration_us, d.action, d.rule FROM tool t JOIN decisions d USING (id) "
        "WHERE t.origin = 'mcp' AND t.method = 'tools/call' ORDER BY t.id"
    )
    rows = json.dumps(json.loads(stand.home.capsem("query", "--json", "mcp", asked)))
    assert "no-deleting" in rows
    assert "length" in rows
    assert stand.home.capsem("verify", "mcp")


def test_a_person_is_asked_about_a_call_and_the_answer_counts(stand: Stand) -> None:
    with stand.client() as client:
        for number, allow in ((1, True), (2, False)):
            sent = {"to": f"friend-{number}"}
            client.say(request(number, "tools/call", name="send", arguments=sent))
            client.say(request("between", "tools/call", name="length"))
            assert client.heard()["id"] == "between", "what follows is not held up"
            [ask] = json.loads(stand.home.capsem("asks", "--wait", "60", "--json"))["asks"]
            assert ask["event"]["mcp"]["arguments"] == sent
            assert f'mcp to tools tools/call send {{"to": "friend-{number}"}}' in stand.home.text("asks")
            assert f"friend-{number}" not in stand.seen(), "it has gone nowhere yet"
            stand.home.capsem("answer", ask["id"], "allow" if allow else "deny")
            answer = client.heard()
            assert answer["id"] == number
            assert ("result" in answer) is allow
            assert (f"friend-{number}" in stand.seen()) is allow
    told = [entry for entry in stand.told() if entry["mcp"].get("tool") == "send"]
    assert [(one["decision"]["action"], one["decision"]["by"]) for one in told] == [
        ("allow", "ask"), ("block", "ask"),
    ]  # fmt: skip
    assert {one["decision"]["rule"]["id"] for one in told} == {"look-first"}
    kinds = [entry["type"] for entry in entries(stand.home, "mcp")]
    assert (kinds.count("egress.ask"), kinds.count("egress.answer")) == (2, 2)


def test_a_call_that_nobody_answers_for_is_refused_in_time(stand: Stand) -> None:
    with stand.client() as client:
        began = time.monotonic()
        client.say(request(1, "tools/call", name="wire"))
        answer = client.heard(60)
        assert time.monotonic() - began >= 3
        assert "nobody answered within 3 s" in answer["error"]["message"]
        assert '"wire"' not in stand.seen()
        # A client with a deadline of its own takes the call back: it goes nowhere, whatever a person then says.
        client.say(request(2, "tools/call", name="send"))
        [ask] = json.loads(stand.home.capsem("asks", "--wait", "60", "--json"))["asks"]
        client.say(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}\n')
        client.say(request(3, "tools/call", name="length"))
        assert client.heard()["id"] == 3
        stand.home.capsem("answer", ask["id"], "allow", code=1)
        assert json.loads(stand.home.capsem("asks", "--json", code=1))["asks"] == []
        assert '"send"' not in stand.seen()
    [taken] = [entry for entry in stand.told() if entry["mcp"].get("tool") == "send"]
    assert taken["decision"]["reason"] == "it was taken back"


def test_a_tool_that_changes_after_it_was_listed_is_hidden_and_refused(stand: Stand) -> None:
    with stand.client() as client:
        client.say(request(1, "tools/list"), request(2, "tools/call", name="length"))
        assert "result" in client.heard()
        assert "result" in client.heard(), "control: as it was listed it is called"
        client.say(request(3, "tools/call", name="turn"), request(4, "tools/list"))
        client.heard()
        answer = client.heard()
        assert "id_rsa" not in json.dumps(answer)
        assert [one["name"] for one in answer["result"]["tools"]] == ["send", "wire"]
        before = stand.seen().count('"length"')
        client.say(request(5, "tools/call", name="length"))
        refused = client.heard()["error"]
        assert "not what its server listed first" in refused["message"]
        assert refused["data"]["place"] == f"{stand.file}:3"
        assert stand.seen().count('"length"') == before
    [entry] = [one for one in stand.told() if one["mcp"].get("request_id") == "5"]
    assert (entry["decision"]["action"], entry["mcp"]["tool_changed"]) == ("block", True)


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
