"""SQL and CEL say the same of the same events."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.rules.detection.detector import Detector
from capsule.rules.detection.examples import FIRES, SILENT
from capsule.rules.detection.model import SigmaFile
from capsule.rules.detection.predicate import ANY, ONE
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.detection.sql import COLUMNS, FUNCTIONS, like, regexp, select, within
from tests.rules.detection.events import dns, event, file, http, process
from tests.rules.detection.test_packs import PACK


def database(events: list[dict[str, Any]]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    for name, (arguments, function) in FUNCTIONS.items():
        connection.create_function(name, arguments, function, deterministic=True)
    connection.execute("CREATE TABLE events (id, run, seq, time, type, event)")
    rows = [
        (one["event"]["id"], one["run"], seq, one["event"]["time"], one["event"]["type"], json.dumps(one))
        for seq, one in enumerate(events)
    ]
    connection.executemany("INSERT INTO events VALUES (?,?,?,?,?,?)", rows)
    return connection


def by_sql(events: list[dict[str, Any]], rules: SigmaFile) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with closing(database(events)) as connection:
        for detection in rules.detections:
            query = select(detection)
            found[detection.about.id] = {
                str(row[0]) for row in connection.execute(query.sql, query.parameters)
            }
    return found


def by_cel(events: list[dict[str, Any]], rules: SigmaFile) -> dict[str, set[str]]:
    detector = Detector([rules])
    found: dict[str, set[str]] = {one.about.id: set() for one in rules.detections}
    for one in events:
        for finding in detector.observe(one):
            found[finding.rule.id].add(finding.events[-1])
    assert detector.failed == 0
    return found


QUESTIONS = [
    "process.path: /usr/bin/curl", "process.path|endswith: [/CURL, /wget]", "process.command|contains: 'Ab%_c'",
    "process.command|contains|all: [a, b]", "process.command: 'curl*x?'", "process.command|cased|contains: Ab",
    "process.command|cased|startswith: Curl", "process.command|re: '[0-9]{3}$'", "process.command|re|i: 'CURL\\s'",
    "process.argv: -X", "process.argv|contains: ab", "process.argv|re: '^-+x'", "process.pid|gte: 7", "process.pid|lt: 7",
    "process.pid: 7", "process.pid|exists: true", "process.command|exists: false", "process.command: null",
    "process.command: ''", "process.command|fieldref: process.path", "process.command|fieldref|startswith: process.name",
    "process.path|fieldref|endswith: process.name", "program.command: bash", "program.command|contains: as",
    "program.command|exists: true", "process.argv|exists: true", "process.command: '*'", "decision.missing: http.sni",
    "process.command|contains: 'é'", "process.command|windash|contains: ' -x '", "process.command|base64offset|contains: secret",
    "process.command: [a, null]",
]  # fmt: skip
HTTP = [
    "http.address|cidr: 10.0.0.0/8", "http.address|cidr: fd00::/8", "http.headers.x-a.b: Q", "http.headers.referer|exists: true",
    "http.websocket: true", "http.websocket: false", "http.status|gt: 399", "http.body.json.a.b: x", "http.body.json.a.b: 3",
    "http.body.json.a.b|gt: 2", "http.body.json.a.b|exists: true", "http.body|exists: true", "http.secret: git",
    "http.response.headers.x: y", "http.body.json.a.b|contains: x",
]  # fmt: skip


def rule(number: int, question: str, category: str, negated: bool = False) -> str:
    condition = "not a" if negated else "a"
    return (
        f"title: t\nid: {category}{number}{negated}\nlogsource: {{product: capsule, category: {category}}}\n"
        f"detection:\n  a:\n    {question}\n  condition: {condition}\n"
    )


RULES = parse_sigma(
    "---\n".join(
        rule(number, question, category, negated)
        for category, questions in (("process", QUESTIONS), ("http", HTTP))
        for number, question in enumerate(questions)
        for negated in (False, True)
    ),
    "all.yml",
)
WORDS = ["curl", "Curl", "CURL -x ab", "Ab%_c", "ab%xc", "AbX_c", "a", "b", "curl 1xy", "curl 12 x1", "123", "É é", "-X", "--x", "", "c2VjcmV0", "x", "/usr/bin/curl", "a -x b", "a /x b"]  # fmt: skip
ODD = [None, True, 3, 3.5, 10**30, ["x"], {"b": "x"}, "x\0y"]


def processes() -> Iterator[dict[str, Any]]:
    for word in WORDS:
        yield process(*(word.split() or ["x"]), path="/usr/bin/curl")
        yield process("x", path=word or "/")
        yield event("process", command=word)
        yield event("process", argv=[word, "b"], path="/bin/" + word, name=word, pid=len(word))
    for odd in ODD:
        yield event("process", command=odd, argv=odd, pid=odd, path=odd, name="x")
        yield {**process("a"), "program": odd, "decision": {"missing": odd}}
        yield {**process("a"), "program": {"argv": odd}, "decision": {"missing": ["http.sni", odd]}}


def requests() -> Iterator[dict[str, Any]]:
    for address in ("10.1.2.3", "11.1.1.1", "::ffff:10.0.0.1", "fd00::1", "name.example", ""):
        yield http(
            "GET",
            "https://a.example/",
            address=address,
            headers={"x-a.b": "q", "x-a": {"b": "q"}},
            secret=["git"],
        )
    for odd in [*ODD, "a", "x", False]:
        yield http(
            "GET",
            "https://a/",
            body={"json": {"a": {"b": odd}}},
            status=odd,
            websocket=odd,
            secret=odd,
            headers={"referer": odd},
        )
        yield http("GET", "https://a/", body=odd, response={"headers": {"x": odd}})
        yield http("GET", "https://a/", body={"json": odd}, response=odd, headers=odd, address=odd)
    yield http("GET", "https://a/", response={"headers": {"x": "Y"}}, status=404, websocket=True)


def test_every_question_has_the_same_answer_in_both() -> None:
    events = [*processes(), *requests()]
    # SQLite's JSON and CEL differ about NUL: the one ends the text there, the other sees U+FFFD.
    events = [one for one in events if "\\u0000" not in json.dumps(one)]
    in_sql, in_cel = by_sql(events, RULES), by_cel(events, RULES)
    by_id = {one["event"]["id"]: one for one in events}
    for name, ids in in_cel.items():
        assert in_sql[name] == ids, (name, [by_id[own] for own in sorted(in_sql[name] ^ ids)][:3], select(next(d for d in RULES.detections if d.about.id == name)))  # fmt: skip


def test_the_questions_are_worth_asking() -> None:
    events = [*processes(), *requests()]
    answered = by_cel(events, RULES)
    never = [name for name, ids in answered.items() if not ids]
    assert not never


@settings(max_examples=40)
@given(st.lists(st.sampled_from(QUESTIONS), min_size=1, max_size=4), st.sampled_from(["all of them", "1 of them", "not 1 of them", "a0 and not all of a*", "a0 or (not a0 and 1 of a*)"]))  # fmt: skip
def test_conditions_over_several_questions(questions: list[str], condition: str) -> None:
    asked = "".join(f"  a{number}:\n    {question}\n" for number, question in enumerate(questions))
    text = f"title: t\nid: x\nlogsource: {{product: capsule, category: process}}\ndetection:\n{asked}  condition: {condition}\n"
    rules = parse_sigma(text, "x.yml")
    events = [one for one in processes() if "\\u0000" not in json.dumps(one)]
    assert by_sql(events, rules) == by_cel(events, rules)


def test_the_pack_finds_the_same_in_a_database() -> None:
    events = [one for several in (*FIRES.values(), *SILENT.values()) for one in several]
    for rules in PACK:
        alone = SigmaFile(tuple(one for one in rules.detections if one.alone))
        live = by_cel(events, alone)
        assert by_sql(events, alone) == live
        assert not alone.detections or any(live.values())


def test_values_are_parameters_and_rows_come_in_order_of_time() -> None:
    rules = parse_sigma(rule(0, 'process.command|contains: "\'; DROP TABLE events; --"', "process"), "x.yml")
    query = select(rules.detections[0])
    assert "DROP" not in query.sql
    assert any("DROP" in str(value) for value in query.parameters)
    events = [process("a", at=9), process("a", at=3), dns("x.example"), file("read", "/x")]
    every = select(parse_sigma(rule(0, "process.name: a", "process"), "x.yml").detections[0])
    with closing(database(events)) as connection:
        rows = connection.execute(every.sql, every.parameters).fetchall()
    assert [row[COLUMNS.index("id")] for row in rows] == [events[1]["event"]["id"], events[0]["event"]["id"]]


@pytest.mark.parametrize(
    ("parts", "pattern"), [(("a%b", ANY, "_", ONE, "\\"), "a\\%b%\\__\\\\"), ((ANY, "x"), "%x"), ((), "")]
)
def test_patterns_of_like(parts: tuple[Any, ...], pattern: str) -> None:
    assert like(parts) == pattern


def test_functions_take_whatever_a_row_holds() -> None:
    assert regexp("a+", "baa")
    assert not regexp("a+", None)
    assert not within(5, "10.0.0.0/8")
    assert within("10.0.0.1", "10.0.0.0/8")
