from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke, unread
from tests.native.log import Log
from tests.sessions.recorded import exec_
from tests.sessions.test_collector import Listening, collector

__all__ = ["collector"]


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_a_line(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    head, *events = lines(invoke(capsys, "sessions", "export", "jsonl").out)
    session = head["session"]
    assert isinstance(session, dict)
    assert session["run"] == "r-1"
    assert [event["seq"] for event in events] == list(range(1, 27))
    assert events[0]["entry"] == "exec"
    assert events[0]["type"] == "process"
    assert {event["log"] for event in events} == {session["log_id"]}


def test_messages_a_line(log: Log, capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert invoke(capsys, "sessions", "export", "otlp", "--out", "o.json").out == ""
    traces, logs = lines((workspace / "o.json").read_text())
    assert list(traces) == ["resourceSpans"]
    assert list(logs) == ["resourceLogs"]


def test_many_records_are_several_messages(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.record(exec_("r-2") for _ in range(1200))
    messages = lines(invoke(capsys, "sessions", "export", "otlp", "r-2").out)
    assert [next(iter(message)) for message in messages] == ["resourceSpans", *["resourceLogs"] * 3]


def test_a_collector_is_handed_everything(
    log: Log, capsys: pytest.CaptureFixture[str], collector: Listening
) -> None:
    log.record([exec_("r-2")])
    answer = invoke(
        capsys,
        "sessions",
        "export",
        "otlp",
        "--all",
        "--endpoint",
        collector.endpoint,
        "--header",
        "x-token=secret",
    )
    assert answer.out == "2 sessions handed over in 4 messages; 0 spans or records refused\n"
    assert [path for path, _, _ in collector.got] == ["/v1/traces", "/v1/logs"] * 2
    assert collector.got[0][1]["x-token"] == "secret"
    collector.answers = [(401, {}, b"who are you")]
    refused = invoke(capsys, "sessions", "export", "otlp", "--endpoint", collector.endpoint)
    assert refused.code == 125
    assert "answers 401 to traces: who are you" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("jsonl", "--endpoint", "http://127.0.0.1:1"),
        ("otlp", "--endpoint", "nowhere"),
        ("xml",),
        ("jsonl", "r-1", "--all"),
        ("otlp", "--endpoint", "http://127.0.0.1:1", "--out", "x"),
        ("otlp", "--endpoint", "http://127.0.0.1:1", "--header", "x"),
    ],
)
def test_what_makes_no_sense_is_refused(
    log: Log, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert invoke(capsys, "sessions", "export", *words).code == 2


def test_since(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(capsys, "sessions", "export", "jsonl", "--since", "2999-01-01").out == ""
    assert len(lines(invoke(capsys, "sessions", "export", "jsonl", "--since", "1h").out)) == 27


def test_a_reader_that_went_away_leaves_nothing_open(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.record([exec_(program=f"/usr/bin/{number}") for number in range(3000)])
    assert unread("sessions", "export", "jsonl", "--all") == (141, "")


def test_a_place_that_cannot_be_written_is_said(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "sessions", "export", "jsonl", "--out", "/proc/no/such")
    assert answer.code == 2
    assert "/proc/no/such cannot be written: No such file" in answer.err
