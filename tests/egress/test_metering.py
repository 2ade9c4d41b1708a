"""Model calls through the daemon: tokens, tools and turns on the log, beside the request."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from capsule.egress.budget import Exhausted, Limits, Reservation
from capsule.egress.metering import USUAL, Meter
from capsule.egress.model.call import ModelCall
from capsule.egress.recording import Recorder
from tests.egress.supervisor import host
from tests.egress.test_deciding import rules
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")
HEADERS = ("-H", "Content-Type: application/json")


def ask(*messages: str, stream: bool = False) -> str:
    roles = ("user", "assistant")
    told = [{"role": roles[index % 2], "content": text} for index, text in enumerate(messages)]
    return json.dumps({"model": "small-1", "messages": told, "stream": stream, "max_tokens": 9})


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_an_answer_in_one_piece_and_the_next_turn(session: Any, upstream: Upstream, version: str) -> None:
    """The upstream repeats what it is sent, so that the answer is ours to write."""
    inside = session(host("a.example", 443), **to(upstream))
    answer = {
        "id": "r-1", "model": "small-1", "choices": [{"index": 0, "finish_reason": "stop", "message":
        {"role": "assistant", "content": "hi"}}], "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }  # fmt: skip
    for messages in (("hello",), ("hello", "hi", "more")):
        body = json.dumps({**json.loads(ask(*messages)), **answer})
        done = inside.curl(version, *HEADERS, "-d", body, "https://a.example/echo/v1/chat/completions")
        assert json.loads(done.out)["id"] == "r-1", done
    first = inside.run.record("egress.model", messages=1)
    second = inside.run.record("egress.model", messages=3)
    model = first["model"]
    assert (model["provider"], model["api"], model["name"]) == ("compatible", "chat", "small-1")
    assert (model["input_tokens"], model["output_tokens"], model["stop_reason"]) == (12, 3, "stop")
    assert model["priced"] is False
    assert model["unknown"] is False
    assert second["model"]["previous"] == first["event"]["id"]
    https = {entry["http"]["id"] for entry in inside.run.records("egress.http")}
    assert {model["http_id"], second["model"]["http_id"]} == https


def test_a_stream(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    done = inside.curl(
        "-N", *HEADERS, "-d", ask("hello", stream=True), "http://a.example/sse/v1/chat/completions"
    )
    assert done.out.count("data:") == 5
    model = inside.run.record("egress.model")["model"]
    assert model["stream"] is True
    assert model["unknown"] is True, "numbers are no answer"


def test_what_is_no_call_and_what_is_too_long(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    inside.curl("-d", "{}", "http://a.example/size")
    long = ask("x" * 1_500_000)
    done = inside.stage.run(
        "curl",
        "-sS",
        "-m",
        "20",
        *HEADERS,
        "-d",
        "@-",
        "http://a.example/size/v1/chat/completions",
        given=long,
    )
    assert done.out == str(len(long))
    inside.run.record("egress.http", path="/size/v1/chat/completions")
    assert not inside.run.records("egress.model"), "neither its host nor its body say that it is one"


def budget(**limits: int) -> dict[str, Any]:
    return {"budget": {"requests": None, "bytes": None, "tokens": None, "microdollars": None, **limits}}


def test_requests_are_bounded(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **budget(requests=2))
    before = len(plain.seen)
    done = inside.curl(*[f"http://a.example/{number}" for number in range(3)])
    assert done.out.startswith("hello /0hello /1capsule blocked GET http://a.example/2\nby budget: ")
    assert len(plain.seen) == before + 2
    assert inside.run.record("egress.http", path="/2")["decision"]["by"] == "budget"
    assert inside.run.record("egress.budget")["near"] == ["requests"]


def test_bytes_are_bounded_inspected_and_passed(session: Any, plain: Upstream, upstream: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **budget(bytes=1_000_000))
    done = inside.curl("-o", "/dev/null", "-w", "%{size_download}", "http://a.example/bytes/2000000")
    assert done.code != 0
    entry = inside.run.record("egress.http")
    assert entry["decision"]["by"] == "budget"
    assert 999_000 < int(done.out) < 1_000_000, "all that fits beside the head, and not one byte more"
    inside.run.close()
    inside = session(host("a.example", 443, inspect="never"), **to(upstream), **budget(bytes=1_000_000))
    done = inside.stage.run("curl", "-sSk", "-m", "20", "-o", "/dev/null", "https://a.example/bytes/2000000")
    assert done.code != 0
    tcp = inside.run.record("egress.tcp", host="a.example")["tcp"]
    assert "bytes" in tcp["error"]
    assert tcp["bytes_in"] + tcp["bytes_out"] == 1_000_000


def test_frames_count_as_bytes_both_ways(session: Any, upstream: Upstream) -> None:
    inside = session(host("a.example", 443), **to(upstream), **budget(bytes=2_000))
    done = inside.client("websocket_says", "a.example", "a" * 100)
    assert (b"a" * 100).hex() in done.out, "the positive control: there is room for one"
    got = bytes.fromhex(
        inside.client("websocket_says", "a.example", *(letter * 120 for letter in "bcdefghijk")).out
    )
    assert b"\x03\xf0capsule: " in got
    assert b"k" * 120 not in got
    entry = inside.run.records("egress.websocket")[-1]
    assert (entry["decision"]["action"], entry["decision"]["by"]) == ("block", "budget")


def test_tokens_are_bounded_before_the_next_call(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **budget(tokens=200))
    answer = {"id": "r", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant",
              "content": "hi"}}], "usage": {"prompt_tokens": 150, "completion_tokens": 5}}  # fmt: skip
    body = json.dumps({**json.loads(ask("hello")), **answer})
    url = "http://a.example/echo/v1/chat/completions"
    before = len(plain.seen)
    assert json.loads(inside.curl(*HEADERS, "-d", body, url).out)["id"] == "r"
    inside.run.record("egress.model")
    refused = inside.curl(*HEADERS, "-w", " %{http_code}", "-d", body, url)
    assert refused.out.endswith("403"), refused
    assert "tokens" in refused.out
    assert len(plain.seen) == before + 1
    assert inside.curl("http://a.example/other").out == "hello /other", "only calls need tokens"


async def _at_once() -> None:
    """There is room."""


def meter(**limits: int) -> Meter:
    return Meter(Recorder(lambda _: None, wait=_at_once), Limits(**limits))


def call(path: str, **fields: Any) -> ModelCall:
    found = ModelCall.begin("api.openai.com", path, json.dumps({"model": "gpt-4o", **fields}).encode())
    assert found is not None
    assert found.request is not None
    return found


def _taken(meter: Meter, call: ModelCall, limit: str = "tokens") -> int:
    before = meter.budget.state()[limit]["reserved"]
    assert isinstance(meter.reserve(call, 400), Reservation)
    return int(meter.budget.state()[limit]["reserved"] - before)


def test_calls_side_by_side_that_say_no_maximum() -> None:
    """Each may use thousands: as many as there are tokens would be a budget that holds nothing."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
    spent = meter(tokens=10_000)
    assert _taken(spent, call("/v1/chat/completions", **asked)) == 100 + 1 + USUAL
    assert _taken(spent, call("/v1/chat/completions", **asked)) == 100 + 1 + USUAL
    assert _taken(spent, call("/v1/chat/completions", **asked)) == 10_000 - 2 * (101 + USUAL), "what is left"
    found = spent.reserve(call("/v1/chat/completions", **asked), 400)
    assert isinstance(found, Exhausted)
    assert "in calls that still run" in found.reason
    dollars = meter(microdollars=60_000)
    assert _taken(dollars, call("/v1/chat/completions", **asked), "microdollars") > 30_000
    assert _taken(dollars, call("/v1/chat/completions", **asked), "microdollars") > 10_000
    assert isinstance(dollars.reserve(call("/v1/chat/completions", **asked), 400), Exhausted)


@pytest.mark.parametrize(
    ("path", "fields", "writes"),
    [
        ("/v1/chat/completions", {"messages": [], "max_tokens": 10, "n": 5}, 50),
        ("/v1/completions", {"prompt": "x", "max_tokens": 10, "n": 2, "best_of": 7}, 70),
        ("/v1/completions", {"prompt": ["x", "y", "z"], "max_tokens": 10}, 30),
        ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 10}, 10),
        ("/v1/responses", {"input": "x", "max_output_tokens": 10}, 10),
        ("/v1beta/models/gemini-x:generateContent",
         {"contents": [], "generationConfig": {"maxOutputTokens": 10, "candidateCount": 4}}, 40),
        ("/v1beta/models/gemini-x:generateContent",
         {"contents": [], "generation_config": {"max_output_tokens": 10, "candidate_count": 4}}, 40),
        ("/v1beta/models/gemini-x:generateContent",
         {"contents": [], "generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9, "candidate_count": 2}},
         18),
        ("/v1/chat/completions", {"messages": [], "max_completion_tokens": 1, "max_tokens": 10}, 10),
        ("/v1/chat/completions", {"messages": [], "max_completion_tokens": 10, "max_tokens": 1}, 10),
        ("/v1/chat/completions", {"messages": [], "max_tokens": 10, "n": -5}, 10),
        ("/v1/chat/completions", {"messages": [], "n": 3}, 1 + 3 * USUAL),
    ],
)  # fmt: skip
def test_several_answers_are_set_aside_for(path: str, fields: dict[str, Any], writes: int) -> None:
    assert _taken(meter(tokens=1_000_000), call(path, **fields)) == 100 + writes


def test_what_goes_on_in_the_background_is_not_counted_and_not_let_go() -> None:
    asked = call("/v1/responses", input="x", background=True)
    found = meter(tokens=1000).reserve(asked, 400)
    assert isinstance(found, Exhausted)
    assert "background" in found.reason
    assert isinstance(meter(requests=5).reserve(asked, 400), Reservation), "only tokens and dollars need it"
    # One whose body nobody could read says so in its answer; nothing is asked after it.
    spent = meter(tokens=600_000)
    hidden = ModelCall.begin("api.openai.com", "/v1/responses", b"\x1f\x8b packed")
    assert hidden is not None
    taken = spent.reserve(hidden, 400)
    assert isinstance(taken, Reservation)
    hidden.answers("application/json", "")
    hidden.feed(
        json.dumps({"object": "response", "id": "r", "status": "queued", "background": True}).encode()
    )
    spent.settle(taken, hidden, 400, sent=True, cut=False)
    assert isinstance(spent.reserve(None, 0), Exhausted)


def test_a_websocket_to_a_model_needs_a_budget_without_tokens(session: Any, upstream: Upstream) -> None:
    assert meter(tokens=9).uncounted("api.openai.com", "/v1/realtime?model=x") is not None
    assert meter(microdollars=9).uncounted("a.example", "/v1/responses") is not None
    assert meter(tokens=9).uncounted("a.example", "/openai/Realtime/?model=x") is not None
    assert meter(tokens=9).uncounted("a.example", "/openai/%72ealtime") is not None
    assert meter(tokens=9).uncounted("a.example", "/chat") is None
    assert meter(requests=9, bytes=9).uncounted("api.openai.com", "/v1/realtime") is None
    inside = session(
        host("generativelanguage.googleapis.com", 443),
        upstreams=[
            {"host": "generativelanguage.googleapis.com", "address": upstream.address, "origin": None}
        ],
        **budget(tokens=1000),
    )
    before = len(upstream.seen)
    inside.client("websocket_says", "generativelanguage.googleapis.com", "hello")
    entry = inside.run.record("egress.http")
    assert (entry["decision"]["action"], entry["decision"]["by"]) == ("block", "budget"), entry
    assert len(upstream.seen) == before


@pytest.mark.parametrize("how", ["refused", "no TLS", "no name"])
def test_a_call_that_never_had_a_connection_is_not_paid_for(session: Any, plain: Upstream, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        nobody = f"127.0.0.1:{sock.getsockname()[1]}"
    name = "nowhere.invalid" if how == "no name" else "a.example"
    address = plain.address if how == "no TLS" else nobody
    places = [] if how == "no name" else [{"host": name, "address": address, "origin": None}]
    inside = session(host(name, 443), upstreams=places, **budget(tokens=200, requests=3))
    url = f"https://{name}/v1/chat/completions"
    codes = [
        inside.curl(*HEADERS, "-o", "/dev/null", "-w", "%{http_code}", "-d", ask("x" * 400), url).out
        for _ in range(2)
    ]
    assert codes == ["502", "502"], "the second would not fit beside the first"
    call = inside.run.records("egress.model")[0]["model"]
    assert (call["priced"], call.get("cost_microdollars")) == (False, None)


def test_an_upgrade_that_is_refused_when_it_is_answered_is_paid_for(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **budget(requests=1))
    codes = [
        inside.curl("-o", "/dev/null", "-w", "%{http_code}", "http://a.example/unasked-upgrade").out
        for _ in range(2)
    ]
    assert codes == ["502", "403"]
    reason = inside.run.record("egress.http", path="/unasked-upgrade")["decision"]["reason"]
    assert "no upgrade but WebSocket's is carried" in reason


TELLING = {"id": "r", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant",
           "content": "hi"}}], "usage": {"prompt_tokens": 150, "completion_tokens": 5}}  # fmt: skip


@pytest.mark.parametrize("odd", ["plain", "another spelling", "long"])
def test_tokens_are_bounded_whatever_the_body_looks_like(session: Any, plain: Upstream, odd: str) -> None:
    inside = session(host("a.example", 80), **to(plain), **budget(tokens=300_000))
    asked = {
        **json.loads(ask("hello")),
        **TELLING,
        "usage": {"prompt_tokens": 299_900, "completion_tokens": 5},
    }
    body = json.dumps({**asked, "Tools": []} if odd == "another spelling" else asked)
    body += " " * (1_100_000 if odd == "long" else 2000)
    url = "http://a.example/echo/v1/chat/completions"
    before = len(plain.seen)
    codes = [
        inside.curl(*HEADERS, "-o", "/dev/null", "-w", "%{http_code}", "-d", "@-", url, given=body).out
        for _ in range(2)
    ]
    assert codes == ["200", "403"]
    assert len(plain.seen) == before + 1
    assert inside.run.records("egress.model")[0]["model"]["unknown"] is (odd != "plain")


def test_an_answer_is_asked_for_in_a_coding_that_can_be_followed(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **budget(tokens=3000))
    coded = ("-H", "Accept-Encoding: br, gzip, zstd")
    inside.curl(*HEADERS, *coded, "-d", ask("hello"), "http://a.example/echo/v1/chat/completions")
    assert plain.seen[-1][2]["accept-encoding"] == "gzip"
    inside.curl(*coded, "http://a.example/other")
    assert plain.seen[-1][2]["accept-encoding"] == "br, gzip, zstd", "only calls are to be followed"


def test_a_call_whose_answer_is_refused_is_paid_for(session: Any, plain: Upstream) -> None:
    refuse = """\
  - id: no-answers
    on: http_response
    when: http.path.startsWith("/echo")
    action: block
    reason: no answers
"""
    inside = session(host("a.example", 80), **to(plain), **budget(tokens=700), **rules(refuse))
    url = "http://a.example/echo/v1/chat/completions"
    before = len(plain.seen)
    refused = [inside.curl(*HEADERS, "-d", ask("hello " * 300), url).out for _ in range(2)]
    assert "by rule" in refused[0]
    assert "tokens" in refused[1]
    assert len(plain.seen) == before + 1, "the first one went out"
