"""Who waits, who answers, and for what an answer holds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.asks import (
    HISTORY,
    STANDING,
    TOLD,
    WAITING,
    Answer,
    AnswerError,
    Ask,
    Asks,
    Outcome,
    Question,
    parse_answer,
)

RULE = {"id": "ask-publish", "file": "rules.yaml", "line": 3, "reason": "it is public"}
T = 120_000


def question(
    host: str = "a.example", path: str = "/p", method: str = "PUT", *, rule: dict[str, Any] | None = None,
    program: str = "/usr/bin/curl", port: int = 443, query: str = "",
) -> Question:  # fmt: skip
    http = {
        "host": host, "path": path, "method": method, "port": port, "query": query, "url": f"https://{host}{path}",
    }  # fmt: skip
    return Question(
        {"event": {"type": "http"}, "http": http},
        RULE if rule is None else rule or None,
        program,
        ("curl", "-T", "x"),
    )


def asked(asks: Asks, now: int, ask_id: str, put: Question | None = None) -> Ask:
    found = asks.ask(put or question(), now, new_id=ask_id, timeout_ms=T)
    assert isinstance(found, Ask), found
    return found


def ended(found: object) -> Outcome:
    assert isinstance(found, Outcome), found
    return found


def test_an_ask_waits_and_is_answered() -> None:
    asks = Asks("run-7")
    ask = asked(asks, 1000, "a1")
    assert ask.outcome is None
    assert asks.next_due() == 1000 + T
    assert asks.waiting() == [
        {
            "id": "a1", "run": "run-7", "at": 1000, "expires": 121_000, "event": dict(ask.question.event),
            "rule": RULE, "program": "/usr/bin/curl", "argv": ["curl", "-T", "x"], "command": [], "asked_before": [],
        }
    ]  # fmt: skip
    outcome = ended(asks.answer("a1", Answer("allow", "once"), 2000, by="terminal"))
    assert outcome == ask.outcome == Outcome(True, "allowed by terminal", "a1")
    assert asks.waiting() == []
    assert asks.answer("a1", Answer("deny", "once"), 2001, by="web") == "answered"
    assert asks.answer("a2", Answer("deny", "once"), 2001, by="web") == "gone"
    assert isinstance(asks.ask(question(), 3000, new_id="a3", timeout_ms=T), Ask), "once was once"


def test_nobody_answers() -> None:
    asks = Asks("r")
    ask = asked(asks, 0, "a1")
    assert asks.due(T - 1) == []
    assert asks.due(T) == [ask]
    assert ask.outcome == Outcome(False, "nobody answered within 120 s", "a1")
    assert asks.answer("a1", Answer("allow", "once"), T, by="x") == "answered"
    assert asks.next_due() is None


def test_an_answer_that_comes_too_late_allows_nothing() -> None:
    asks = Asks("r")
    ask = asked(asks, 0, "a1")
    assert asks.answer("a1", Answer("allow", "host"), T, by="x") == "answered"
    assert ask.outcome is not None
    assert not ask.outcome.allowed
    assert isinstance(asks.ask(question(), T, new_id="a2", timeout_ms=T), Ask), "and it stands for nothing"


def test_equal_questions_wait_together() -> None:
    asks = Asks("r")
    first = asked(asks, 0, "a1")
    assert asked(asks, 10, "a2") is first
    assert first.joined == 2
    for other in (
        question(path="/q"), question(method="POST"), question(host="b.example"), question(program="/bin/evil"),
        question(query="x=1"), question(port=8443), question(rule={"id": "other"}),
    ):  # fmt: skip
        assert isinstance(found := asks.ask(other, 20, new_id=f"b{id(other)}", timeout_ms=T), Ask)
        assert found is not first


def test_whoever_asked_may_go() -> None:
    asks = Asks("r")
    ask = asked(asks, 0, "a1")
    asked(asks, 0, "a2")
    assert asks.withdraw("a1", 5) is None
    assert asks.withdraw("a1", 6) is ask
    assert ask.outcome == Outcome(False, "whoever asked is gone", "a1")
    assert asks.withdraw("a1", 7) is None


COVERED = [
    ("path", question(), True),
    ("path", question(query="other=1", program="/bin/other"), True),
    ("path", question(path="/q"), False),
    ("path", question(path="/p/below"), False),
    ("path", question(method="DELETE"), False),
    ("path", question(port=8443), False),
    ("path", question(host="b.example"), False),
    ("path", question(rule={"id": "other"}), False),
    ("path", question(rule={}), False),
    ("host", question(path="/q", method="DELETE", port=8443), True),
    ("host", question(host="b.example"), False),
    ("host", question(host="x.a.example"), False),
    ("host", question(rule={"id": "other"}), False),
]


@pytest.mark.parametrize("action", ["allow", "deny"])
@pytest.mark.parametrize(("scope", "later", "covered"), COVERED)
def test_what_an_answer_holds_for(action: Any, scope: Any, later: Question, covered: bool) -> None:
    asks = Asks("r")
    asked(asks, 0, "a1")
    asks.answer("a1", Answer(action, scope), 1, by="web")
    found = asks.ask(later, 10**9, new_id="a2", timeout_ms=T)
    assert isinstance(found, Outcome) is covered
    if isinstance(found, Outcome):
        assert found.allowed is (action == "allow")
        assert found.ask_id == "a1"


@pytest.mark.parametrize("action", ["allow", "deny"])
@pytest.mark.parametrize(("scope", "later", "covered"), COVERED)
def test_an_answer_holds_for_what_waits_already(
    action: Any, scope: Any, later: Question, covered: bool
) -> None:
    asks = Asks("r")
    asked(asks, 0, "a1")
    other = asks.ask(later, 1, new_id="a2", timeout_ms=T)
    asks.answer("a1", Answer(action, scope, for_ms=1000), 2, by="web")
    over = asks.covered(3)
    assert isinstance(other, Ask)
    if other.id == "a1":
        return  # an equal question, which waited with the first
    assert over == ([other] if covered else [])
    assert (other.outcome is not None) is covered
    if other.outcome is not None:
        assert other.outcome == Outcome(
            action == "allow", f"answered with a1 for this {scope} ({action})", "a2"
        )
        assert asks.answer("a2", Answer("allow", "once"), 4, by="web") == "answered"


def test_an_answer_for_this_once_leaves_the_others_waiting() -> None:
    asks = Asks("r")
    asked(asks, 0, "a1")
    asked(asks, 0, "a2", question(path="/q"))
    asked(asks, 0, "a3", question(path="/late"))
    asks.answer("a1", Answer("allow", "once"), 1, by="web")
    assert asks.covered(1) == []
    asks.answer("a2", Answer("allow", "host"), 2, by="web")
    assert asks.covered(T) == [], "its time is over"
    assert [ask.id for ask in asks.due(T)] == ["a3"]


def test_an_answer_holds_as_long_as_was_said() -> None:
    asks = Asks("r")
    asked(asks, 0, "a1")
    asks.answer("a1", Answer("allow", "host", for_ms=1000), 500, by="web")
    assert ended(asks.ask(question(), 1499, new_id="x", timeout_ms=T)).allowed
    asked(asks, 1500, "a2")
    asks.answer("a2", Answer("deny", "host"), 1600, by="web")
    assert not ended(asks.ask(question(), 1700, new_id="y", timeout_ms=T)).allowed


def test_the_narrower_answer_comes_first() -> None:
    asks = Asks("r")
    asked(asks, 0, "a1")
    asked(asks, 0, "a2", question(path="/secret"))
    asks.answer("a1", Answer("allow", "host"), 1, by="web")
    asks.answer("a2", Answer("deny", "path"), 1, by="web")
    assert not ended(asks.ask(question(path="/secret"), 2, new_id="x", timeout_ms=T)).allowed
    assert ended(asks.ask(question(path="/open"), 2, new_id="x", timeout_ms=T)).allowed


def test_new_rules_ask_again() -> None:
    asks = Asks("r")
    asked(asks, 0, "a1")
    asks.answer("a1", Answer("allow", "host"), 1, by="web")
    asks.forget()
    assert isinstance(asks.ask(question(), 2, new_id="a2", timeout_ms=T), Ask)


def test_a_flood_is_denied_and_memory_is_bounded() -> None:
    asks = Asks("r")
    for number in range(WAITING):
        asked(asks, 0, f"a{number}", question(path=f"/{number}"))
    assert ended(asks.ask(question(path="/more"), 0, new_id="m", timeout_ms=T)) == Outcome(
        False, f"{WAITING} asks wait already", "m"
    )
    assert asked(asks, 0, "n", question(path="/3")).id == "a3"
    for number in range(STANDING + 50):
        asks.due(10**9 * number)
        asked(asks, 10**9 * number, f"b{number}", question(path=f"/{number}"))
        asks.answer(f"b{number}", Answer("allow", "path"), 10**9 * number, by="w")
    assert len(asks._standing) == STANDING
    assert len(asks._past) == len(asks._over) == HISTORY
    assert isinstance(asks.ask(question(path="/0"), 10**13, new_id="z", timeout_ms=T), Ask), (
        "forgotten is asked again"
    )


def test_what_was_asked_before_is_told() -> None:
    asks = Asks("r")
    for number in range(TOLD + 3):
        asked(asks, number, f"a{number}", question(path=f"/{number}"))
        asks.answer(f"a{number}", Answer("deny", "once"), number, by="web")
    asked(asks, 50, "o", question(host="other.example", rule={"id": "other"}))
    asks.answer("o", Answer("deny", "once"), 51, by="web")
    told = asks.describe(asked(asks, 99, "b"))["asked_before"]
    assert len(told) == TOLD
    assert told[-1] == {
        "at": TOLD + 2,
        "what": f"PUT https://a.example/{TOLD + 2}",
        "outcome": "denied by web",
    }
    json.dumps(asks.waiting())


def test_versions_grow_with_every_change() -> None:
    asks = Asks("r")
    seen = [asks.version]
    asked(asks, 0, "a1")
    seen.append(asks.version)
    asks.answer("a1", Answer("deny", "once"), 1, by="w")
    seen.append(asks.version)
    assert seen == sorted(set(seen))


def test_events_of_every_kind_have_a_host_and_words() -> None:
    for event, host, what in (
        ({"event": {"type": "dns"}, "dns": {"name": "a.example", "qtype": "A"}}, "a.example", "a.example"),
        ({"event": {"type": "tcp"}, "tcp": {"host": "a.example", "port": 5432}}, "a.example", "a.example"),
        ({"event": {"type": "mcp"}, "mcp": {"server": "m.example", "tool": "rm"}}, "m.example", "rm"),
        ({"event": {"type": "http_response"}, "http": {"host": "h.example", "url": "u"}}, "h.example", "u"),
        ({"event": {"type": "file"}}, "", "file"),
    ):  # fmt: skip
        put = Question(event, None)
        assert (put.host, put.what) == (host, what)
        assert put.key("host") != put.key("once")


def test_answers_are_parsed() -> None:
    assert parse_answer(b'{"action": "allow"}') == Answer("allow", "once")
    assert parse_answer(b'{"action": "deny", "scope": "host", "for": "10m"}') == Answer(
        "deny", "host", 600_000
    )
    assert parse_answer(b'{"action": "allow", "scope": "path", "for": "none"}') == Answer("allow", "path")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"[" * 4000, "not JSON"),
        (b"[]", "an object"),
        (b'{"action": "allow", "x": 1}', "an object"),
        (b'{"action": "ask"}', "allow or deny"),
        (b'{"scope": "once"}', "allow or deny"),
        (b'{"action": ["allow"]}', "allow or deny"),
        (b'{"action": "allow", "scope": "all"}', "once, path or host"),
        (b'{"action": "allow", "scope": null}', "once, path or host"),
        (b'{"action": "allow", "for": "1 hour"}', "a duration"),
        (b'{"action": "allow", "for": 600}', "a duration"),
        (b'{"action": "allow", "for": "-1s"}', "a duration"),
        (b'{"action": "allow"}' + b" " * 5000, "at most 4096"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_other_answers_are_refused(body: bytes, said: str) -> None:
    with pytest.raises(AnswerError, match=said):
        parse_answer(body)


@given(st.binary(max_size=200))
def test_noise_is_refused_with_a_reason(body: bytes) -> None:
    try:
        parse_answer(body)
    except AnswerError:
        return


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "answer", "due"]), st.integers(0, 3), st.sampled_from(["allow", "deny"]),
            st.sampled_from(["once", "path", "host"]), st.integers(0, 200_000),
        ),
        max_size=60,
    )
)  # fmt: skip
def test_nothing_is_allowed_that_nobody_allowed(steps: list[tuple[str, int, Any, Any, int]]) -> None:
    asks, now, allowed = Asks("r"), 0, False
    for number, (step, which, action, scope, pause) in enumerate(steps):
        now += pause
        if step == "ask":
            found = asks.ask(question(path=f"/{which}"), now, new_id=f"a{number}", timeout_ms=T)
            assert not (isinstance(found, Outcome) and found.allowed and not allowed)
        elif step == "answer" and asks.waiting():
            waiting = asks.waiting()
            found_id = waiting[which % len(waiting)]["id"]
            outcome = asks.answer(found_id, Answer(action, scope, 1000), now, by="w")
            allowed = allowed or (isinstance(outcome, Outcome) and outcome.allowed)
        else:
            assert all(ask.outcome is not None and not ask.outcome.allowed for ask in asks.due(now))
        assert all(found["expires"] > now or step != "due" for found in asks.waiting())


def test_another_content_is_another_question() -> None:
    """Who waits first is not answered for what comes beside it with other arguments."""
    asks = Asks("run-7")
    first = asked(asks, 0, "a1", replace(question(), content="one"))
    assert asked(asks, 1, "a2", replace(question(), content="two")).id == "a2"
    assert asked(asks, 2, "a3", replace(question(), content="one")) is first
    asks.answer("a1", Answer("allow", "once"), 3, by="x")
    assert [one["id"] for one in asks.waiting()] == ["a2"]
