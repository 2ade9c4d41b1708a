from __future__ import annotations

import json

import pytest

from capsule.sessions.database import Writer, directory
from tests.cli.invoke import invoke
from tests.native.log import Log


def test_it_is_compared_and_mended(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "sessions", "rebuild", "--check")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "27 entries compared, 0 rows differ: the database says what the logs say\n"
    with Writer.open(directory()) as writer:
        writer.connection.execute("UPDATE http SET host = 'good.example' WHERE path = '/gists'")
    answer = invoke(capsys, "sessions", "rebuild", "--check")
    assert answer.code == 1
    assert "http       seq 15         other" in answer.out
    found = json.loads(invoke(capsys, "sessions", "rebuild", "--check", "--json").out)
    assert [(row["table"], row["seq"], row["what"]) for row in found["differences"]] == [
        ("http", 15, "other")
    ]
    assert invoke(capsys, "sessions", "rebuild").out == "27 entries of 1 logs are indexed again\n"
    assert invoke(capsys, "sessions", "rebuild", "--check").code == 0
    assert not list(directory().glob("sessions-check-*"))


def test_sessions_of_a_log_that_is_gone_are_kept(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    invoke(capsys, "sessions", "list")
    log.path.unlink()
    answer = invoke(capsys, "sessions", "rebuild")
    assert "is missing: what was indexed of it is kept" in answer.err
    assert invoke(capsys, "sessions", "show", "r-1").code == 0
    assert "that log is missing now" in invoke(capsys, "sessions", "show", "r-1").out
