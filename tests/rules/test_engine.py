"""Decisions: order, three values, conflicts, stages, edits, and the index beside a plain evaluation of everything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.rules.engine import RuleSet, broken, compile_rules
from capsule.rules.rule import RuleError, parse_rules


def rules(*rows: dict[str, Any]) -> RuleSet:
    complete = [
        {"id": f"r{number}", "on": "http", "action": "block", **row} for number, row in enumerate(rows)
    ]
    return compile_rules([parse_rules(json.dumps({"version": 1, "rules": complete}, indent=1), "rules.yaml")])


def http(**fields: Any) -> dict[str, Any]:
    return {"event": {"type": "http"}, "http": fields}


def test_the_rule_and_its_place_are_named() -> None:
    decision = rules({"id": "no", "when": 'http.host == "a"', "reason": "not there"}).decide(http(host="a"))
    assert decision.action == "block"
    assert decision.rule is not None
    assert (decision.rule.id, decision.rule.file, decision.rule.line) == ("no", "rules.yaml", 5)
    assert decision.reason == "not there"


def test_no_rule_holds() -> None:
    assert rules({"when": 'http.host == "a"'}).decide(http(host="b")).action == "undecided"
    assert rules({"when": 'http.host == "a"'}).decide({"event": {"type": "dns"}}).action == "undecided"


def test_the_smaller_priority_decides_wherever_it_stands() -> None:
    found = rules(
        {"when": "true", "action": "block", "priority": 500},
        {"when": "true", "action": "allow", "priority": 20},
        {"when": "true", "action": "ask", "priority": 30, "ask_timeout": "2m"},
    )
    assert found.decide(http()).action == "allow"
    asking = rules({"when": "true", "action": "ask", "ask_timeout": "2m"}).decide(http())
    assert (asking.action, asking.ask_timeout_ms) == ("ask", 120_000)


@pytest.mark.parametrize("refusing", ["block", "ask"])
def test_two_rules_of_one_priority_that_disagree_block(refusing: str) -> None:
    decision = rules(
        {"when": "true", "action": "allow"}, {"when": "http.port == 1", "action": refusing}
    ).decide(http(port=1))
    assert decision.action == "block"
    assert decision.conflict is not None
    assert {ref.id for ref in decision.conflict} == {"r0", "r1"}
    assert "r0" in decision.reason
    assert "r1" in decision.reason


def test_block_wins_over_ask_without_being_a_conflict() -> None:
    decision = rules({"when": "true", "action": "ask"}, {"when": "true", "action": "block"}).decide(http())
    assert (decision.action, decision.conflict) == ("block", None)


@pytest.mark.parametrize(("action", "expected"), [("block", "block"), ("ask", "ask"), ("allow", "undecided")])
def test_missing_holds_for_those_that_take_away(action: str, expected: str) -> None:
    decision = rules({"when": 'http.sni == "a"', "action": action}).decide(http(host="x"))
    assert decision.action == expected
    assert decision.missing == (("http.sni",) if expected != "undecided" else ())


@pytest.mark.parametrize(("action", "expected"), [("block", "block"), ("ask", "ask"), ("allow", "undecided")])
def test_failing_holds_for_those_that_take_away(action: str, expected: str) -> None:
    decision = rules({"when": "1 / http.port == 1", "action": action}).decide(http(port=0))
    assert decision.action == expected
    assert (decision.failed is not None) == (expected != "undecided")


def test_an_event_that_cannot_be_shown_is_blocked() -> None:
    decision = rules({"when": "http.path.size() == 3", "action": "allow"}).decide(http(path="\ud800"))
    assert decision.action == "block"
    assert decision.failed


@pytest.mark.parametrize(
    "value", [None, "x", 3, [], {"body": None}, {"body": "json"}, {"body": {"json": None}}]
)
def test_an_event_of_another_shape_is_decided_and_not_a_crash(value: Any) -> None:
    event = {"event": {"type": "http"}, "http": value}
    assert rules({"when": 'http.host == "a"', "action": "block"}).decide(event).action == "block"
    assert rules({"when": "http.path.size() == 3", "action": "allow"}).decide(event).action in {
        "undecided",
        "block",
    }


def test_a_body_nested_without_end_is_blocked() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    event = http(host="a", body={"json": deep})
    assert rules({"when": "http.path.size() == 3", "action": "allow"}).decide(event, "body").action == "block"
    while deep:
        deep = deep.pop()


def test_rewrites_are_collected_until_something_decides() -> None:
    edit = {"when": "true", "action": "rewrite"}
    found = rules(
        {**edit, "priority": 10, "rewrite": [{"remove_header": "a"}]},
        {**edit, "priority": 20, "rewrite": [{"remove_header": "b"}]},
        {"when": 'http.host == "x"', "action": "allow", "priority": 30},
        {**edit, "priority": 40, "rewrite": [{"remove_header": "c"}]},
        {"when": 'http.host == "z"', "action": "block", "priority": 15},
        {**edit, "when": 'http.sni == "s"', "priority": 11, "rewrite": [{"remove_header": "never"}]},
    )
    assert [edit.name for edit in found.decide(http(host="x")).edits] == ["a", "b"]
    assert [edit.name for edit in found.decide(http(host="y")).edits] == ["a", "b", "c"]
    assert found.decide(http(host="y")).action == "undecided"
    assert found.decide(http(host="z")).edits == ()


def test_a_level_makes_a_finding() -> None:
    found = rules(
        {
            "when": "true",
            "action": "rewrite",
            "level": "low",
            "rewrite": [{"remove_header": "a"}],
            "priority": 10,
        },
        {"when": "true", "action": "block", "level": "high", "priority": 20},
        {"when": "true", "action": "block", "level": "critical", "priority": 30},
    )
    assert [noted.level for noted in found.decide(http()).findings] == ["low", "high"]


def test_the_body_is_waited_for_only_when_it_matters() -> None:
    found = rules({"when": 'http.host == "up" && http.body.size > 10', "action": "block"})
    assert found.decide(http(host="x")).action == "undecided"
    waiting = found.decide(http(host="up"))
    assert (waiting.action, waiting.pending) == ("block", True)
    assert found.decide(http(host="up", body={"size": 5}), "body").action == "undecided"
    assert found.decide(http(host="up", body={"size": 50}), "body").action == "block"
    absent = found.decide(http(host="up"), "body")
    assert (absent.action, absent.pending, absent.missing) == ("block", False, ("http.body.size",))


def test_a_guarded_body_is_waited_for_too() -> None:
    found = rules(
        {"when": 'http.path.startsWith("/u") && has(http.body) && http.body.size > 10', "action": "block"}
    )
    assert found.decide(http(path="/u")).pending
    assert found.decide(http(path="/x")).action == "undecided"
    assert found.decide(http(path="/u"), "body").action == "undecided"


def test_what_decides_before_the_body_does_not_wait() -> None:
    found = rules(
        {"when": 'http.host == "a"', "action": "allow", "priority": 10},
        {"when": "http.body.size > 1", "action": "block", "priority": 20},
        {"when": 'http.host == "b"', "action": "block", "priority": 20},
    )
    assert found.decide(http(host="a")).action == "allow"
    assert found.decide(http(host="c")).pending
    refused = found.decide(http(host="b"))
    assert (refused.action, refused.pending) == ("block", False)


def test_answers_have_rules_of_their_own() -> None:
    found = rules({"on": "http_response", "when": "http.status == 500", "action": "block"})
    assert found.decide(http(status=500)).action == "undecided"
    assert found.decide(http(status=500), "response").action == "block"
    assert found.asks_about("http_response")
    assert not found.asks_about("http")


def test_reads() -> None:
    found = rules({"when": 'http.body.json.a == "b"'}, {"when": '"x" in http.headers'})
    assert found.reads("http.body")
    assert found.reads("http.body.json")
    assert found.reads("http.headers")
    assert not found.reads("http.body.text")
    assert not found.reads("http.path")


def test_what_might_hold_with_the_host_alone() -> None:
    found = rules(
        {"when": 'http.host == "a" && http.method == "PUT"'},
        {
            "when": 'http.host == "b"',
            "action": "rewrite",
            "rewrite": [{"redact": "[0-9]{16}", "in": "response"}],
        },
    )
    assert found.may_hold("http", {"http": {"host": "a"}})
    assert not found.may_hold("http", {"http": {"host": "c"}})
    assert not found.may_hold("dns", {})
    assert [edit.kind for edit in found.may_edit("http", {"http": {"host": "b"}})] == ["redact"]
    assert found.may_edit("http", {"http": {"host": "a"}}) == ()


def test_broken_denies_everything_and_says_why() -> None:
    found = broken("rules.yaml:3:5: nope")
    for name in ("http", "dns", "file"):
        decision = found.decide({"event": {"type": name}})
        assert decision.action == "block"
        assert "rules.yaml:3:5: nope" in decision.reason
    assert found.may_hold("http", {})
    assert found.asks_about("dns")


def test_conditions_that_do_not_compile_are_shown_with_a_caret() -> None:
    text = "version: 1\nrules:\n  - id: x\n    on: http\n    when: >\n      http.host == 'a' &&\n      http.hots == 3\n    action: block\n"
    with pytest.raises(RuleError) as caught:
        compile_rules([parse_rules(text, "my.yaml")])
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("my.yaml:7:12: rule x: there is no field http.hots; did you mean http.host?")
    assert lines[1:] == ["  |       http.hots == 3", "  |            ^"]


def test_an_id_of_two_files_is_refused() -> None:
    text = "version: 1\nrules: [{id: x, on: dns, when: 'true', action: block}]\n"
    with pytest.raises(RuleError, match=r"b\.yaml:2:1: the id 'x' is taken; a\.yaml:2 has it"):
        compile_rules([parse_rules(text, "a.yaml"), parse_rules(text, "b.yaml")])


def test_a_caller_who_does_not_say_what_happened_is_told() -> None:
    found = rules({"when": "true"})
    with pytest.raises(ValueError, match=r"event\.type"):
        found.decide({"http": {}})
    with pytest.raises(ValueError, match="stage"):
        found.decide(http(), "later")  # type: ignore[arg-type]


CONDITIONS = [
    'http.host == "a"', 'http.host in ["a", "b"] && http.port == 443', 'http.host.endsWith("b")', "http.port == 80",
    'http.path.contains("q")', '"x" in http.headers', 'http.path.size() > 3', 'http.method != "GET"', "true",
    'http.host == "a" && http.sni == "s"', '!(http.host == "a")', 'http.path.startsWith("/q") || http.port == 1',
]  # fmt: skip
ACTIONS = ["allow", "block", "ask"]


def plainly(found: RuleSet, event: dict[str, Any]) -> str:
    """The format's order without any index: every rule of a priority alone, strictest wins, allow beside them blocks."""
    for priority in sorted({one.rule.priority for one in found.rules}):
        said = set()
        for one in found.rules:
            if one.rule.priority == priority:
                alone = RuleSet([one]).decide(event)
                said.add(alone.action)
        said -= {"undecided"}
        if said:
            return said.pop() if len(said) == 1 else "block"
    return "undecided"


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(CONDITIONS), st.sampled_from(ACTIONS), st.sampled_from([10, 20, 30])),
        min_size=1,
        max_size=12,
    ),
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "host": st.sampled_from(["a", "b", "c"]),
                "port": st.sampled_from([443, 80, 1]),
                "path": st.sampled_from(["/q", "/", "/long/q"]),
                "method": st.sampled_from(["GET", "PUT"]),
                "headers": st.sampled_from([{}, {"x": "1"}]),
            },
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_with_the_index_everything_is_decided_as_without(
    rows: list[tuple[str, str, int]], events: list[dict[str, Any]]
) -> None:
    found = rules(
        *({"when": when, "action": action, "priority": priority} for when, action, priority in rows)
    )
    for fields in events:
        assert found.decide(http(**fields)).action == plainly(found, http(**fields))


def mcp(**fields: Any) -> dict[str, Any]:
    return {"event": {"type": "mcp"}, "mcp": {"method": "tools/call", "server": "s", **fields}}


@pytest.mark.parametrize(
    ("rows", "blocked"),
    [
        ([{"when": 'mcp.tool == "rm"'}], True),
        ([{"when": 'mcp.tool != "rm"'}], False),
        ([{"when": 'mcp.tool == "rm" && mcp.arguments.path == "/"'}], False),
        ([{"when": 'mcp.tool == "rm" || mcp.arguments.path == "/"'}], True),
        ([{"when": 'mcp.tool == "rm" && !has(mcp.arguments)'}], False),
        ([{"when": 'mcp.tool == "rm" && !has(mcp.request_id)'}], False),
        ([{"when": 'mcp.tool == "rm" && program.name == "x"'}], False),
        ([{"when": 'mcp.tool == "rm" && event.time > "2020"'}], False),
        ([{"when": 'mcp.tool == "rm"', "action": "ask"}], False),
        # What might let it on before counts; what comes after does not.
        ([{"when": 'mcp.tool == "rm"'}, {"when": 'mcp.arguments.force == "no"', "action": "allow", "priority": 10}], False),
        ([{"when": 'mcp.tool == "rm"'}, {"when": 'mcp.tool == "rm"', "action": "ask", "priority": 10}], False),
        ([{"when": 'mcp.tool == "rm"'}, {"when": 'mcp.tool == "ls"', "action": "allow", "priority": 10}], True),
        ([{"when": 'mcp.tool == "rm"'}, {"when": 'has(mcp.arguments)', "action": "allow", "priority": 10}], False),
        ([{"when": 'mcp.tool == "rm"'}, {"when": 'mcp.server == "s"', "action": "allow", "priority": 900}], True),
        # At one priority a block and an allow are a conflict, which blocks.
        ([{"when": 'mcp.server == "s"', "action": "allow"}, {"when": 'mcp.tool == "rm"'}], True),
        ([{"when": 'mcp.server == "s"', "action": "allow", "priority": 10}, {"when": 'mcp.tool == "rm"'}], False),
    ],
)  # fmt: skip
def test_what_is_blocked_whatever_else_is_said(rows: list[dict[str, Any]], blocked: bool) -> None:
    found = rules(*({"on": "mcp", **row} for row in rows))
    decision = found.surely_blocks(mcp(tool="rm"))
    assert (decision is not None and decision.action == "block") is blocked
    if blocked:
        for more in ({}, {"arguments": {"path": "/", "force": "no"}, "request_id": "1"}):
            assert found.decide(mcp(tool="rm", **more)).action == "block"


def test_broken_rules_surely_block_and_others_say_nothing_of_it() -> None:
    assert broken("no").surely_blocks(mcp(tool="rm")) is not None
    assert rules({"when": 'http.host == "a"'}).surely_blocks(mcp(tool="rm")) is None
    assert rules({"on": "mcp", "when": 'mcp.tool == "a"'}).surely_blocks(mcp(tool="\ud800")) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["allow", "ask", "block"]),
            st.sampled_from([10, 20]),
            st.lists(
                st.sampled_from([
                    'mcp.tool == "rm"', 'mcp.tool != "rm"', "has(mcp.arguments)", "!has(mcp.arguments)",
                    'mcp.arguments.a == "x"', 'mcp.request_id == "1"', 'program.name == "p"',
                    'mcp.?arguments.?a.orValue("y") == "y"',
                ]),
                min_size=1, max_size=2,
            ),
            st.sampled_from([" && ", " || "]),
        ),
        max_size=4,
    ),
    st.sampled_from([{}, {"arguments": {"a": "x"}}, {"arguments": {"a": "z"}}, {"arguments": {}}]),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=300)
def test_what_is_surely_blocked_is_blocked_whatever_comes(
    rows: list[tuple[str, int, list[str], str]], given_: dict[str, Any], known: bool, named: bool
) -> None:
    found = rules(
        *(
            {"on": "mcp", "action": action, "priority": priority, "when": join.join(parts)}
            for action, priority, parts, join in rows
        )
    )
    if found.surely_blocks(mcp(tool="rm")) is not None:
        event = mcp(tool="rm", **given_, **({"request_id": "1"} if known else {}))
        if named:
            event["program"] = {"name": "p"}
        assert found.decide(event).action == "block"
