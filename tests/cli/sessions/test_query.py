from __future__ import annotations

import json

import pytest

from tests.cli.invoke import invoke
from tests.native.log import Log


def test_an_answer_is_a_table(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "sessions", "query", "SELECT host, port, error FROM http ORDER BY id LIMIT 1")
    assert answer.out.splitlines() == ["HOST             PORT  ERROR", "api.example.org   443  -"]


def test_nothing_is_cut_where_no_terminal_is(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "sessions", "query", f"SELECT '{'x' * 300}' AS v")
    assert answer.out.splitlines()[1] == "x" * 300


def test_json_and_limits(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(
        capsys, "sessions", "query", "SELECT seq, sealed FROM events, logs", "--limit", "2", "--json"
    )
    found = json.loads(answer.out)
    assert (found["columns"], [row[0] for row in found["rows"]], found["more"]) == (
        ["seq", "sealed"],
        [0, 1],
        True,
    )
    assert len(found["rows"][0][1]) == 44, "bytes are base64"
    assert (
        "there are more rows"
        in invoke(capsys, "sessions", "query", "SELECT seq FROM events", "--limit", "2").err
    )
    assert invoke(capsys, "sessions", "query", "SELECT 1 AS x WHERE 0").out == "X\n"


def test_json_has_no_infinity(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "sessions", "query", "SELECT 1e999 AS a, -1e999 AS b, 0.5 AS c", "--json")
    assert '"rows":[["inf","-inf",0.5]]' in answer.out


def test_it_only_reads(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "sessions", "query", "DELETE FROM events")
    assert (answer.code, answer.out) == (2, "")
    assert "a query only reads" in answer.err
    assert json.loads(invoke(capsys, "sessions", "query", "SELECT count(*) FROM events", "--json").out)[
        "rows"
    ] == [[27]]


def test_it_ends_in_time(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    answer = invoke(capsys, "sessions", "query", endless, "--seconds", "0.1")
    assert answer.code == 2
    assert "give it more with --seconds" in answer.err
