from __future__ import annotations

import json
from typing import Any

from capsule.sessions.otlp import attributes, identity, logs, traces
from tests.sessions.recorded import session
from tests.sessions.test_timeline import happened

RUN: dict[str, Any] = {
    "run": "r-1", "log_id": "ab" * 16, "started": "2026-11-25T19:13:30.000000Z", "ended": "2026-11-25T19:13:31.500000Z",
    "last_us": 0, "command": '["/usr/bin/git","status"]', "cwd": "/w", "code": 0, "cause": "exited", "policy": "p",
    "policy_digest": "d", "tier": "full", "denials": 2, "version": "0.1.0", "host": "h",
}  # fmt: skip


def spans() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = traces(RUN, happened(*session()))["resourceSpans"][0]["scopeSpans"][0][
        "spans"
    ]
    return found


def of(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def test_a_session_is_a_trace() -> None:
    root, *others = spans()
    assert (root["name"], root["status"], root["startTimeUnixNano"], root["endTimeUnixNano"]) == (
        "git", {"code": 1}, "1795634010000000000", "1795634011500000000",
    )  # fmt: skip
    assert {span["traceId"] for span in others} == {root["traceId"]}
    assert {span["parentSpanId"] for span in others} == {root["spanId"]}
    assert [span["name"] for span in others] == [
        "GET", "POST", "connect db.example.org:443", "chat claude", "execute_tool grep", "call",
    ]  # fmt: skip
    assert len({span["spanId"] for span in spans()}) == 7
    assert all(
        len(bytes.fromhex(span["spanId"])) == 8 and len(bytes.fromhex(span["traceId"])) == 16
        for span in spans()
    )


def test_spans_say_what_was_asked_and_how_it_ended() -> None:
    _, get, post, *_ = spans()
    assert of(get) == {
        "http.request.method": "GET", "server.address": "api.example.org", "server.port": "443", "url.scheme": "https",
        "url.path": "/v1/a", "http.response.status_code": "200", "network.protocol.version": "2",
        "http.request.body.size": "12", "http.response.body.size": "2048", "network.peer.address": "203.0.113.9",
        "capsule.seq": "13",
    }  # fmt: skip
    assert int(get["endTimeUnixNano"]) - int(get["startTimeUnixNano"]) == 4_000_000
    assert post["status"] == {"code": 2, "message": "gists are public"}
    assert of(spans()[4])["gen_ai.usage.input_tokens"] == "1200"


def test_a_run_without_an_end_has_one_all_the_same() -> None:
    (root,) = traces({**RUN, "ended": None, "code": None, "last_us": 1795634019000000}, [])["resourceSpans"][
        0
    ]["scopeSpans"][0]["spans"]
    assert (root["endTimeUnixNano"], root["status"]["code"]) == ("1795634019000000000", 2)


def test_the_rest_are_records() -> None:
    records = logs(RUN, happened(*session()))["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    bodies = [record["body"]["stringValue"] for record in records]
    assert "git status" in bodies
    assert "refused: cat: read /home/u/.ssh/id_ed25519" in bodies
    assert (
        next(
            record["severityNumber"]
            for record in records
            if record["body"]["stringValue"] == "Secret read, then sent"
        )
        == 17
    )
    assert {record["traceId"] for record in records} == {spans()[0]["traceId"]}


def test_values_are_as_the_encoding_has_them() -> None:
    """64-bit integers are strings; nothing but the fields of the protocol's JSON mapping is there."""
    assert attributes({"a": 1, "b": True, "c": ["x"], "d": None, "e": {"bytes": "L/8="}}) == [
        {"key": "a", "value": {"intValue": "1"}},
        {"key": "b", "value": {"boolValue": True}},
        {"key": "c", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
        {"key": "e", "value": {"stringValue": "/\\xff"}},
    ]
    assert identity(RUN, "x", 8) == identity(RUN, "x", 8) != identity({**RUN, "run": "r-2"}, "x", 8)


def test_odd_events_are_no_error() -> None:
    odd: list[Any] = [None, 3, -1, "\x1b", [], {"a": 1}]
    for entry in session():
        for name in [key for key in entry if key not in ("type", "run")]:
            for value in odd:
                poisoned = happened({**entry, name: value})
                json.dumps([traces(RUN, poisoned), logs(RUN, poisoned)])
