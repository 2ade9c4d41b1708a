"""Files of rules: what is read, and every way in which a file is wrong, with its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.rules.engine import compile_rules
from capsule.rules.rewrite import Edit
from capsule.rules.rule import RuleError, RuleFile, parse_rules

FULL = """\
version: 1
rules:
  - id: no-gists
    on: http
    when: http.host == "api.example" && http.path.startsWith("/gists")
    action: block
    priority: 100
    reason: gists are
      public
    level: high
    tests:
      match: [{http: {host: api.example, port: 443, path: /gists, headers: {x-a: 5}, body: {json: {a: [1, "2", null]}}}}]
      miss: [{run: 7, http: {host: api.example}, program: {argv: [a, 1]}}]
  - id: ask
    on: [http, dns]
    when: "true"
    action: ask
    ask_timeout: 2m
  - id: edits
    on: http
    when: "true"
    action: rewrite
    rewrite:
      - {remove_header: x-client-id}
      - {set_header: {user-agent: agent}}
      - {set_query: {utm: "0"}}
      - {remove_query: ref}
      - {set_json: {"$.metadata.user_id": "-"}}
      - {remove_json: "$.a[0]"}
      - {redact: "[0-9]{16}", with: "[card]", in: response}
"""


def one(row: str, file: str = "r.yaml", head: str = "") -> RuleFile:
    return parse_rules(f"version: 1\n{head}rules:\n  - {row}\n", file)


def test_everything_that_may_be_written() -> None:
    found = parse_rules(FULL, "r.yaml").rules
    first, second, third = found
    assert (first.id, first.on, first.action, first.priority, first.owner) == (
        "no-gists",
        ("http",),
        "block",
        100,
        "user",
    )
    assert (first.reason, first.level, first.line) == ("gists are public", "high", 3)
    assert [example.holds for example in first.examples] == [True, False]
    assert first.examples[0].event == {
        "http": {"host": "api.example", "port": 443, "path": "/gists", "headers": {"x-a": "5"}, "body": {"json": {"a": [1, "2", None]}}},
        "event": {"type": "http"},
    }  # fmt: skip
    assert first.examples[1].event["run"] == "7"
    assert first.examples[1].event["program"] == {"argv": ["a", "1"]}
    assert (second.on, second.ask_timeout_ms, second.priority) == (("http", "dns"), 120_000, 500)
    assert third.edits == (
        Edit("remove_header", "x-client-id"),
        Edit("set_header", "user-agent", "agent"),
        Edit("set_query", "utm", "0"),
        Edit("remove_query", "ref"),
        Edit("set_json", "$.metadata.user_id", "-"),
        Edit("remove_json", "$.a[0]"),
        Edit("redact", "[0-9]{16}", "[card]", "response"),
    )


def test_corp_rules_only_where_only_the_administrator_writes() -> None:
    row = "{id: a, on: dns, when: 'true', action: block, priority: -20}"
    found = one(row, "/etc/capsule/rules.yaml", "owner: corp\n")
    assert (found.owner, found.rules[0].priority) == ("corp", -20)
    for file in ("r.yaml", "/etc/capsule-of-mine/r.yaml", "./etc/capsule/r.yaml"):
        with pytest.raises(RuleError, match="owner is corp"):
            one(row, file, "owner: corp\n")
    with pytest.raises(
        RuleError, match="priority is -20; expected a whole number from 10 to 1000 for owner user"
    ):
        one(row)


REST = "on: http, when: 'true', action"


@pytest.mark.parametrize(
    ("row", "at", "what"),
    [
        (f"{{{REST}: block}}", "{on", "a rule has no 'id'"),
        ("{id: a, on: http, action: block}", "{id", "a rule has no 'when'"),
        (f"{{id: A b, {REST}: block}}", "A b", "id is 'A b'"),
        (f"{{id: a, {REST}: blok}}", "blok", "did you mean 'block'"),
        (f"{{id: a, {REST}: block, nope: 1}}", "nope", "unknown key 'nope'"),
        ("{id: a, on: htp, when: 'true', action: block}", "htp", "did you mean 'http'"),
        ("{id: a, on: htp, when: 'true', action: block, tests: {match: [{http: {host: x}}]}}", "htp", "did you mean 'http'"),
        ("{id: a, on: [], when: 'true', action: block}", "[]", "on is empty"),
        ("{id: a, on: http, when: [x], action: block}", "[x]", "when is a list"),
        (f"{{id: a, {REST}: block, priority: 5}}", "5}", "priority is 5"),
        (f"{{id: a, {REST}: block, priority: soon}}", "soon", "priority is soon"),
        (f"{{id: a, {REST}: block, level: bad}}", "bad", "level is 'bad'"),
        (f"{{id: a, {REST}: block, ask_timeout: 2m}}", "2m", "beside action block"),
        (f"{{id: a, {REST}: ask, ask_timeout: soon}}", "soon", "ask_timeout is 'soon'"),
        (f"{{id: a, {REST}: rewrite}}", "rewrite", "without 'rewrite'"),
        (f"{{id: a, {REST}: rewrite, rewrite: []}}", "[]", "0 edits"),
        (f"{{id: a, {REST}: block, rewrite: [{{remove_header: a}}]}}", "[{", "beside action block"),
        (f"{{id: a, {REST}: rewrite, rewrite: [{{remove_header: a, remove_query: b}}]}}", "{remove", "exactly one thing"),
        (f"{{id: a, {REST}: rewrite, rewrite: [{{remove_header: host}}]}}", "host}", "says where it goes"),
        (f"{{id: a, {REST}: rewrite, rewrite: [{{redact: '('}}]}}", "'('", "not RE2"),
        (f"{{id: a, {REST}: rewrite, rewrite: [{{set_json: {{a: 1}}}}]}}", "a: 1", "not a path"),
        (f"{{id: a, {REST}: rewrite, rewrite: [{{set_header: x}}]}}", "x}", "set_header is a single value"),
        (f"{{id: a, {REST}: rewrite, rewrite: [{{remove_header: a, with: x}}]}}", "x}", "'with' beside"),
        (f"{{id: a, {REST}: rewrite, rewrite: [{{remove_query: a, in: response}}]}}", "{remove", "no query"),
        ("{id: a, on: dns, when: 'true', action: rewrite, rewrite: [{remove_query: a}]}", "[{", "rewrite of dns"),
        ("{id: a, on: http_response, when: 'true', action: rewrite, rewrite: [{remove_header: a, in: request}]}", "request", "has gone"),
        (f"{{id: a, {REST}: block, tests: {{match: [{{http: {{hots: x}}}}]}}}}", "{http: {hots", "http.hots: no such field"),
        (f"{{id: a, {REST}: block, tests: {{match: [x]}}}}", "x]", "an event is a single value"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(row: str, at: str, what: str) -> None:
    with pytest.raises(RuleError) as caught:
        one(row)
    place = f"3:{5 + row.index(at)}"
    assert any(
        str(problem).startswith(f"r.yaml:{place}: ") and what in str(problem)
        for problem in caught.value.problems
    ), str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the file is empty"),
        ("rules: []", "no 'version: 1'"),
        ("version: 1", "has no 'rules'"),
        ("version: 2\nrules: []", "no 'version: 1'"),
        ("version: 1\nrules: &a []", "an anchor"),
        ("version: 1\nrules: []\nrules: []", "written twice"),
        ("version: 1\nrules: []\nx: 1", "unknown key 'x'"),
        ("version: 1\nrules:\n  - {id: a, on: dns, when: 'true', action: block}\n  - {id: a, on: dns, when: 'true', action: block}\n", "line 3 has it"),
        ("version: 1\nrules: \ud800", "not UTF-8"),
    ],
)  # fmt: skip
def test_files_that_are_no_rules(text: str, what: str) -> None:
    with pytest.raises(RuleError, match=what):
        parse_rules(text, "r.yaml")


def test_windows_line_ends_do_not_move_the_places() -> None:
    found = parse_rules(FULL.replace("\n", "\r\n"), "r.yaml")
    assert [rule.line for rule in found.rules] == [rule.line for rule in parse_rules(FULL, "r.yaml").rules]
    assert "\r" not in found.text


def test_values_of_edits_keep_their_types() -> None:
    edits: tuple[Any, ...] = (
        one(
            f"{{id: a, {REST}: rewrite, rewrite: [{{set_json: {{$.a: 1, $.b: '1', $.c: null, $.d: [true, 1.5, {{e: x}}]}}}}]}}"
        )
        .rules[0]
        .edits
    )
    assert [edit.value for edit in edits] == [1, "1", None, [True, 1.5, {"e": "x"}]]


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: Any) -> None:
    text = FULL
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        piece = data.draw(
            st.sampled_from(
                [
                    "{",
                    "[",
                    "- ",
                    ": ",
                    "\n",
                    "'",
                    '"',
                    "!",
                    "&a",
                    "&&",
                    "(",
                    "has(",
                    "\0",
                    "\ud800",
                    "9" * 30,
                    "null",
                ]
            )
        )
        text = text[:at] + piece + text[at + data.draw(st.integers(0, 8)) :]
    try:
        compile_rules([parse_rules(text, "r.yaml")])
    except RuleError as refusal:
        assert {problem.file for problem in refusal.problems} == {"r.yaml"}  # noqa: PT017
