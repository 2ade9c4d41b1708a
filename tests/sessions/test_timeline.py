from __future__ import annotations

from typing import Any

from capsule.rules.entry import event_of
from capsule.sessions import timeline
from capsule.sessions.timeline import Happened, microseconds, tell
from tests.sessions.recorded import denied, exec_, http, session, write

ODD: list[Any] = [None, 3, "\x1b[2J", [], {"a": 1}]
RUN = {"run": "r-1", "started": "2026-11-25T19:13:30.000000Z", "cwd": "/w"}


def happened(*entries: dict[str, Any], step: int = 1000) -> list[Happened]:
    found = []
    for seq, entry in enumerate(entries):
        time = f"2026-11-25T19:13:{30 + seq * step // 1_000_000}.{seq * step % 1_000_000:06}Z"
        kind, event = event_of({**entry, "time": time})
        found.append(Happened(time, seq, kind, entry["type"], event))
    return found


def test_times() -> None:
    assert microseconds("1970-01-01T00:00:01.000005Z") == 1_000_005
    assert microseconds("never") == 0


def test_neighbours_that_are_equal_are_one_beat() -> None:
    told = tell(
        RUN,
        happened(
            exec_(), exec_("r-1", "cat", program="/bin/cat"), exec_(), write("/w/a"), write("/w/b"), exec_()
        ),
    )
    assert [(beat.verb, beat.who, dict(beat.names)) for beat in told.beats] == [
        ("ran", "", {"git": 2, "cat": 1}),
        ("wrote", "git", {"/w/a": 1, "/w/b": 1}),
        ("ran", "", {"git": 1}),
    ]
    assert [beat.at for beat in told.beats] == [0, 3000, 5000]
    assert (told.events, told.end) == (6, 5000)


def test_everything_is_counted() -> None:
    told = tell(RUN, happened(*session()))
    assert dict(told.programs) == {"git": 1, "python3": 1}
    assert {place: dict(counts) for place, counts in told.files.items()} == {
        "/w/src": {"create": 1, "rename": 1}
    }
    host = told.hosts["api.example.org"]
    assert (host.requests, host.blocked, host.bytes_out, host.bytes_in) == (2, 1, 24, 4096)
    assert dict(host.methods) == {"GET": 1, "POST": 1}
    assert told.hosts["db.example.org"].bytes_in == 5000
    assert dict(told.names) == {("api.example.org", "allow"): 3, ("evil.example", "block"): 3}
    use = told.models["claude"]
    assert (use.calls, use.input_tokens, use.cached_tokens, use.output_tokens, use.cost, use.unpriced) == (
        1, 1200, 1000, 300, 8100, 0,
    )  # fmt: skip
    assert dict(told.tools) == {("grep", "files"): 1, ("add", ""): 1}
    assert [(found.operation, found.probe, found.rule != "") for found in told.denied.values()] == [
        ("read", False, True), ("connect", False, False), ("execute", False, True), ("syscall", True, True),
    ]  # fmt: skip
    assert dict(told.findings) == {("high", "Secret read, then sent"): 1}
    assert dict(told.asks) == {"asked": 1, "denied": 1}
    assert dict(told.unknown) == {"egress.lost": 1, "limit": 1}
    assert len(told.refusals) == 5


def test_refusals_say_why_and_probes_are_not_told() -> None:
    told = tell(RUN, happened(denied("/x", probe=True), denied("/y", count=4), denied("/y")))
    assert [(beat.verb, beat.note) for beat in told.beats] == [
        ("refused", 'deny: ["~/.ssh"] (preset:toolchains:62)')
    ]
    assert told.denied["read", "/y", "cat"].count == 5


def test_a_story_does_not_grow_without_end(monkeypatch: Any) -> None:
    monkeypatch.setattr(timeline, "MAX_BEATS", 4)
    monkeypatch.setattr(timeline, "MAX_NAMES", 3)
    monkeypatch.setattr(timeline, "MAX_KINDS", 5)
    entries = [write(f"/w/{n}/f") for n in range(20)] + [
        each
        for n in range(20)
        for each in (exec_(program=f"/bin/p{n}"), http(f"h{n}.example"), denied(f"/d{n}"))
    ]
    told = tell(RUN, happened(*entries))
    assert (len(told.beats), told.untold) == (4, 38)
    assert (len(told.beats[0].names), told.beats[0].more, told.beats[0].count) == (3, 17, 20)
    assert (len(told.files), told.files["…"].total()) == (6, 15)
    assert (len(told.hosts), len(told.programs), len(told.denied)) == (6, 6, 6)
    assert sum(use.requests for use in told.hosts.values()) == 20


def test_odd_events_are_told_without_error() -> None:
    for entry in session():
        for name in [key for key in entry if key not in ("type", "run")]:
            for odd in ODD:
                assert tell(RUN, happened({**entry, name: odd})).events == 1


def spoken(**fields: Any) -> dict[str, Any]:
    decision = fields.pop("decision", {"action": "allow", "by": "grant", "rule": {"id": "mcp.servers files"}})
    section = {"method": "tools/call", "server": "files", "tool": "read", "direction": "out", **fields}
    return {"type": "egress.mcp", "program": {"name": "claude", "reported_by": "guest"}, "mcp": section} | {
        "decision": decision
    }


def test_messages_of_mcp_say_server_tool_decision_rule_and_time() -> None:
    rule = {"id": "no-deleting", "file": "r.yaml", "line": 3}
    told = tell(
        RUN,
        happened(
            spoken(duration_us=1500),
            spoken(duration_us=500),
            spoken(tool="rm", decision={"action": "block", "by": "rule", "reason": "not here", "rule": rule}),
            spoken(
                tool="send",
                decision={"action": "allow", "by": "ask", "reason": "allowed by api", "rule": rule},
            ),
            spoken(method="tools/list", tool=None, tools_listed=3, tools_hidden=1),
            spoken(method="roots/list", tool=None, direction="in"),
            spoken(error="the tool failed"),
            spoken(method="", tool=None, decision={"action": "block", "by": "protocol", "reason": "no JSON"}),
        ),
    )
    who = "claude (guest)"
    assert [(beat.verb, beat.who, dict(beat.names), beat.note, beat.took) for beat in told.beats] == [
        ("used", who, {"files read": 2}, "", 2000),
        ("refused", who, {"files rm": 1}, "not here (rule no-deleting, r.yaml:3)", 0),
        ("used", who, {"files send": 1}, "allowed by api (rule no-deleting, r.yaml:3)", 0),
        ("used", who, {"files tools/list": 1}, "1 of 3 tools are not shown", 0),
        ("used", "server files", {"files roots/list": 1}, "", 0),
        ("used", who, {"files read": 1}, "failed: the tool failed", 0),
        ("refused", who, {"files: no message": 1}, "no JSON", 0),
    ]
    assert len(told.refusals) == 2
    assert ("rm", "files") not in told.tools, "what was refused was not used"
