"""An ask from the request to the answer and back: at the terminal, over HTTP, by nobody."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.egress.supervisor import host, wait_until
from tests.egress.test_deciding import rules
from tests.egress.test_layers import to
from tests.egress.test_seam import get, post
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")


def asking(when: str = 'http.method == "PUT"', timeout: str = "30s") -> dict[str, Any]:
    return rules(
        f"  - {{id: publish, on: http, when: '{when}', action: ask, ask_timeout: {timeout}, reason: it publishes}}\n"
    )


def put(inside: Any, path: str = "/size/1", text: str = "body") -> int:
    url = f"http://a.example{path}"
    number: int = inside.stage.start(
        "curl", "-sS", "-m", "25", "-X", "PUT", "-d", text, "-w", " %{http_code}", url
    )
    return number


def test_the_terminal_is_asked_and_says_yes(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), interactive=True, **to(plain), **asking())
    before = len(plain.seen)
    number = put(inside)
    ask = inside.run.frame(lambda frame: frame["type"] == "ask")
    assert ask["rule"]["id"] == "publish"
    assert ask["rule"]["reason"] == "it publishes"
    assert ask["event"]["http"]["url"] == "http://a.example/size/1"
    assert len(plain.seen) == before, "nothing goes out while it waits"
    inside.run.send({"type": "answer", "id": ask["id"], "allow": True, "scope": "once", "for_ms": None})
    assert inside.stage.finish(number).out == "4 200"
    asked = inside.run.frame(lambda frame: frame["type"] == "asked")
    assert asked["outcome"] == "allowed by terminal"
    entry = inside.run.record("egress.http", path="/size/1")
    assert (entry["decision"]["action"], entry["decision"]["by"]) == ("allow", "ask")
    assert inside.run.record("egress.answer")["answer"]["allowed"] is True


def test_http_says_no_and_an_answer_for_the_host_holds(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **asking())
    number = put(inside)
    daemon = inside.run.daemon
    wait_until(lambda: get(daemon, "/asks")[1]["asks"])
    (ask,) = get(daemon, "/asks")[1]["asks"]
    assert post(daemon, f"/asks/{ask['id']}", {"action": "deny", "scope": "once"})[0] == 204
    assert "denied by capsule answer" in inside.stage.finish(number).out
    assert post(daemon, f"/asks/{ask['id']}", {"action": "allow"})[0] == 409
    number = put(inside)
    wait_until(lambda: get(daemon, "/asks")[1]["asks"])
    (ask,) = get(daemon, "/asks")[1]["asks"]
    assert [past["outcome"] for past in ask["asked_before"]] == ["denied by capsule answer"]
    assert post(daemon, f"/asks/{ask['id']}", {"action": "allow", "scope": "host", "for": "10m"})[0] == 204
    assert inside.stage.finish(number).out.endswith("200")
    assert inside.stage.finish(put(inside, "/size/2")).out == "4 200", "nobody is asked again"


@pytest.mark.parametrize(("action", "status"), [("allow", "200"), ("deny", "403")])
def test_an_answer_for_the_host_ends_all_that_waits_for_it(
    session: Any, plain: Upstream, action: str, status: str
) -> None:
    inside = session(host("a.example", 80), **to(plain), **asking())
    numbers = [put(inside, f"/size/{number}") for number in range(3)]
    daemon = inside.run.daemon
    wait_until(lambda: len(get(daemon, "/asks")[1]["asks"]) == 3)
    before = len(plain.seen)
    first = get(daemon, "/asks")[1]["asks"][0]
    assert post(daemon, f"/asks/{first['id']}", {"action": action, "scope": "host"})[0] == 204
    assert all(inside.stage.finish(number).out.endswith(status) for number in numbers)
    assert get(daemon, "/asks")[1]["asks"] == []
    assert len(plain.seen) - before == (3 if action == "allow" else 0)
    answers = [entry["answer"] for entry in inside.run.records("egress.answer")]
    assert len(answers) == 3
    assert {answer["allowed"] for answer in answers} == {action == "allow"}


def test_nobody_answers(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **asking(timeout="1s"))
    before = len(plain.seen)
    done = inside.stage.finish(put(inside))
    assert done.out.endswith("403")
    assert "nobody answered within 1 s" in done.out
    assert len(plain.seen) == before


def test_equal_questions_are_one_ask_and_a_gone_program_withdraws(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **asking())
    numbers = [put(inside) for _ in range(3)]
    daemon = inside.run.daemon
    wait_until(lambda: get(daemon, "/asks")[1]["asks"])
    wait_until(lambda: get(daemon, "/sessions")[1]["sessions"][0]["connections"] == 3)
    time.sleep(1)  # each connection first waits a moment for its program's name
    (ask,) = get(daemon, "/asks")[1]["asks"]
    post(daemon, f"/asks/{ask['id']}", {"action": "allow"})
    assert [inside.stage.finish(number).out for number in numbers] == ["4 200"] * 3
    put(inside)
    wait_until(lambda: get(daemon, "/asks")[1]["asks"])
    inside.run.close()
    wait_until(lambda: not get(daemon, "/asks")[1]["asks"])


def test_an_unlisted_name_is_asked_about(session: Any, plain: Upstream) -> None:
    inside = session(host("b.example", 80), unlisted="ask", **to(plain))
    number = inside.stage.start("curl", "-sS", "-m", "20", "http://a.example/x")
    daemon = inside.run.daemon
    wait_until(lambda: get(daemon, "/asks")[1]["asks"])
    (ask,) = get(daemon, "/asks")[1]["asks"]
    assert ask["rule"] is None
    post(daemon, f"/asks/{ask['id']}", {"action": "allow", "scope": "path"})
    assert inside.stage.finish(number).out == "hello /x"
