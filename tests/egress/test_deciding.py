"""Rules over real requests: at the head, with the body, at the answer; what is changed, and what is not sent."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.egress.supervisor import host, wait_until
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")


def rules(*texts: str) -> dict[str, Any]:
    """The plan and the sources of one rule file."""
    text = "version: 1\nrules:\n" + "".join(texts)
    return {"rules": [{"path": "/rules.yaml"}], "sources": [{"path": "/rules.yaml", "text": text}]}


BLOCK = """\
  - id: no-gists
    on: http
    when: http.path.startsWith("/gists")
    action: block
    reason: gists are public
    level: high
"""
SPELLINGS = (
    "/%67ists/1",
    "/./gists/1",
    "/x/../gists/1",
    "//gists/1",
    "/x/%2e%2e/gists",
    "/x%2f..%2fgists",
    "/gists;a=1",
)
BODY = """\
  - id: no-word
    on: http
    when: http.method == "POST" && http.body.text.contains("forbidden word")
    action: block
    reason: the word
"""


def test_a_rule_blocks_and_says_where_it_stands(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **rules(BLOCK))
    assert inside.run.ready["rules"] == 1
    before = len(plain.seen)
    done = inside.curl("-H", "Accept: application/json", "-w", " %{http_code}", "http://a.example/gists/1")
    body, _, status = done.out.rpartition(" ")
    assert status == "403"
    said = json.loads(body)
    assert said["rule"] == "no-gists"
    assert said["place"] == "/rules.yaml:3"
    assert said["reason"] == "gists are public"
    assert len(plain.seen) == before
    entry = inside.run.record("egress.http", path="/gists/1")
    assert entry["decision"]["rule"]["id"] == "no-gists"
    finding = inside.run.record("egress.finding")
    assert (finding["rule"]["id"], finding["rule"]["level"]) == ("no-gists", "high")
    assert finding["events"] == [entry["event"]["id"]]
    assert inside.curl("http://a.example/other").out == "hello /other"


def test_a_rule_on_a_path_holds_however_it_is_spelled(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **rules(BLOCK))
    before = len(plain.seen)
    for spelled in SPELLINGS:
        done = inside.curl("--path-as-is", "-w", " %{http_code}", f"http://a.example{spelled}")
        assert done.out.endswith(" 403"), (spelled, done)
    assert len(plain.seen) == before, "nothing of them went out"
    assert inside.curl("http://a.example/%6fther").out == "hello /%6fther", "the control, sent as it was"


def test_a_request_is_redacted(session: Any, plain: Upstream) -> None:
    redact = """\
  - id: cards
    on: http
    when: "true"
    action: rewrite
    rewrite: [{redact: "[0-9]{16}", with: "[card]"}]
"""
    inside = session(host("a.example", 80), **to(plain), **rules(redact))
    done = inside.curl("-d", "pay 1234567812345678 now", "http://a.example/echo")
    assert done.out == "pay [card] now"
    assert plain.seen[-1][2]["content-length"] == str(len(done.out))
    assert inside.curl("http://a.example/get").out == "hello /get", "the control: nothing to redact"


def test_a_rule_that_reads_the_body_waits_for_it(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **rules(BODY))
    before = len(plain.seen)
    done = inside.curl("-w", " %{http_code}", "-d", "a forbidden word", "http://a.example/size")
    assert done.out.endswith("403")
    assert len(plain.seen) == before
    assert inside.curl("-d", "another", "http://a.example/size").out == "7"
    assert inside.curl("http://a.example/get").out == "hello /get"


def test_a_body_over_the_limit_is_not_read_and_therefore_blocked(session: Any, plain: Upstream) -> None:
    """`block` holds when what it reads is missing."""
    inside = session(host("a.example", 80), **to(plain), **rules(BODY))
    done = inside.stage.run(
        "sh",
        "-c",
        "head -c 3000000 /dev/zero | curl -sS -m 20 -T - -X POST -w ' %{http_code}' http://a.example/size",
    )
    assert done.out.endswith("403"), done
    entry = inside.run.record("egress.http", path="/size")
    assert entry["decision"]["missing"] == ["http.body.text"]


def test_rewrites(session: Any, plain: Upstream) -> None:
    rewrite = """\
  - id: change
    on: http
    when: "true"
    action: rewrite
    rewrite:
      - {remove_header: x-client-id}
      - {set_header: {user-agent: agent}}
      - {set_query: {utm: "0"}}
      - {set_json: {"$.user": "-"}}
"""
    inside = session(host("a.example", 80), **to(plain), **rules(rewrite))
    sent = '{"user": "me", "n": 1.10}'
    done = inside.curl(
        "-H",
        "X-Client-Id: 7",
        "-H",
        "Content-Type: application/json",
        "-d",
        sent,
        "http://a.example/echo?utm=9&k=1",
    )
    assert json.loads(done.out) == {"user": "-", "n": 1.10}
    _, target, headers = plain.seen[-1]
    assert target == "/echo?utm=0&k=1"
    assert "x-client-id" not in headers
    assert headers["user-agent"] == "agent"
    assert headers["content-length"] == str(len(done.out))
    assert inside.run.record("egress.http", path="/echo")["decision"]["action"] == "rewrite"


METHOD = """\
  - id: no-delete
    on: http
    when: http.method == "DELETE"
    action: block
"""


PART = "--x\r\nContent-Disposition: x; name=_method\r\n\r\nDELETE\r\n--x--\r\n"


@pytest.mark.parametrize("by", ["grant", "rule"])
def test_a_method_that_a_form_asks_for_is_the_requests_own(session: Any, plain: Upstream, by: str) -> None:
    """As Rails and Laravel have it; nothing of a request that is refused arrives."""
    limits: dict[str, Any] = {"methods": ["POST"]} if by == "grant" else {}
    inside = session(host("a.example", 80, **limits), **to(plain), **({} if limits else rules(METHOD)))
    sent = (
        ("--data", "a=1&_method=DELETE"),
        ("--data", ".method=delete"),
        ("--form", "_method=delete"),
        ("--json", '{"_method": "DELETE"}'),
        # Rack takes a body without a type for a form, and any multipart for an upload; without a boundary, for a form.
        ("-H", "content-type:", "--data", "a=1&_method=DELETE"),
        ("-H", "content-type;", "--data", "a=1&_method=DELETE"),
        ("-H", "content-type: multipart/mixed; boundary=x", "--data", PART),
        ("-H", "content-type: multipart/related; boundary=x", "--data", PART),
        (
            "-H",
            "content-type: multipart/mixed; boundary=x",
            "--data",
            PART.replace("Disposition: x; name=", "ID: "),
        ),
        ("-H", "content-type: multipart/mixed", "--data", "_method=DELETE"),
    )
    before = len(plain.seen)
    for how in sent:
        done = inside.curl("-w", " %{http_code}", *how, "http://a.example/size")
        assert done.out.endswith(" 403"), how
        assert "its field _method asks the server for DELETE" in done.out, how
    assert len(plain.seen) == before
    assert inside.run.record("egress.http", path="/size")["decision"]["by"] == by
    spoken = ("-H", "content-type: application/grpc+json")  # not waited for: it ends as it passes
    asks = '{"_method": "DELETE"}'
    assert inside.curl(*spoken, "--data", asks, "http://a.example/size").code != 0
    for other in (
        ("--data", "a=1"),
        ("--form", "a=_method"),
        ("--json", '{"a": 1}'),
        ("-X", "POST", "-H", "content-type:"),
        ("-H", "content-type:", "--data", "a=_method&b=1"),
        ("-H", "content-type: multipart/mixed; boundary=x", "--data", PART.replace("_method", "a")),
        (*spoken, "--data", "{}"),
    ):
        assert inside.curl("-w", " %{http_code}", *other, "http://a.example/size").out.endswith(" 200"), other


def test_a_long_upload_that_asks_for_a_method_does_not_end(
    session: Any, plain: Upstream, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"y" * (3 << 20))
    inside = session(host("a.example", 80, methods=["POST"]), **to(plain))
    done = inside.curl("--form", f"f=@{big}", "--form", "_method=delete", "http://a.example/size")
    assert done.code != 0
    wait_until(lambda: inside.run.records("egress.http"))
    decision = inside.run.record("egress.http", path="/size")["decision"]
    assert (decision["action"], decision["by"]) == ("block", "grant")
    done = inside.curl("-w", " %{http_code}", "--form", f"f=@{big}", "--form", "a=b", "http://a.example/size")
    assert done.out.endswith(" 200"), "the control"
    assert int(done.out.split()[0]) > 3 << 20


def test_a_long_body_without_a_type_that_asks_for_a_method_does_not_end(
    session: Any, plain: Upstream, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    inside = session(host("a.example", 80, methods=["POST"]), **to(plain))
    untyped = (
        "-w",
        " %{http_code}",
        "-H",
        "content-type:",
        "--data-binary",
        f"@{big}",
        "http://a.example/size",
    )
    big.write_bytes(b"y" * (3 << 20) + b"&%5fmethod=delete")
    assert inside.curl(*untyped).code != 0
    wait_until(lambda: inside.run.records("egress.http"))
    decision = inside.run.record("egress.http", path="/size")["decision"]
    assert (decision["action"], decision["by"]) == ("block", "grant")
    big.write_bytes(b"y" * (3 << 20) + b"&amethod=delete")
    assert inside.curl(*untyped).out.endswith(" 200"), "the control"


def test_a_long_or_coded_json_that_asks_for_a_method_does_not_arrive(
    session: Any, plain: Upstream, tmp_path: Path
) -> None:
    big, asks, packed = tmp_path / "big", tmp_path / "asks", tmp_path / "packed"
    text = '{"a": "' + "y" * (2 << 20)
    big.write_text(text + '"}')
    asks.write_text(text + '", "_method": "DELETE"}')
    packed.write_bytes(gzip.compress(b'{"_method": "DELETE"}'))
    inside = session(host("a.example", 80, methods=["POST"]), **to(plain))
    json_ = ("-H", "content-type: application/json")
    url = "http://a.example/size"
    assert inside.curl(*json_, "--data-binary", f"@{asks}", url).code != 0
    wait_until(lambda: inside.run.records("egress.http"))
    decision = inside.run.record("egress.http", path="/size")["decision"]
    assert (decision["action"], decision["by"]) == ("block", "grant")
    for coding, says in (("gzip", "asks the server for DELETE"), ("br", "JSON under a content coding")):
        coded = (*json_, "-H", f"content-encoding: {coding}", "--data-binary", f"@{packed}")
        done = inside.curl("-w", " %{http_code}", *coded, url)
        assert says in done.out
        assert done.out.endswith(" 403")
    done = inside.curl("-w", " %{http_code}", *json_, "--data-binary", f"@{big}", url)
    assert done.out.endswith(" 200"), "the control"


def test_rules_that_do_not_compile_deny_everything(session: Any, plain: Upstream) -> None:
    inside = session(
        host("a.example", 80),
        **to(plain),
        **rules("  - {id: x, on: http, when: 'http.hots == 1', action: block}\n"),
    )
    assert inside.run.ready["problems"]
    done = inside.curl("-w", " %{http_code}", "http://a.example/x")
    assert done.code == 6 or "rules are broken" in done.out, done


def test_rules_are_replaced_while_the_run_goes_on(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **rules(BLOCK))
    assert "403" in inside.curl("-w", "%{http_code}", "http://a.example/gists").out
    text = "version: 1\nrules:\n" + BLOCK.replace("/gists", "/other")
    outside = inside.run.sources[0]
    inside.run.send({"type": "sources", "sources": [outside, {"path": "/rules.yaml", "text": text}]})
    wait_until(lambda: inside.run.records("egress.rules"))
    assert inside.curl("http://a.example/gists").out == "hello /gists"
    assert "403" in inside.curl("-w", "%{http_code}", "http://a.example/other").out
    inside.run.send({"type": "sources", "sources": [outside, {"path": "/rules.yaml", "text": "version: 2"}]})
    wait_until(lambda: len(inside.run.records("egress.rules")) == 2)
    address = inside.run.record("egress.dns", qtype="A")["dns"]["answer"]
    assert inside.curl("http://a.example/gists").code == 6
    out = inside.curl("--resolve", f"a.example:80:{address}", "http://a.example/gists").out
    assert "rules are broken" in out
    gone = {"path": "/rules.yaml", "text": "", "problem": "/rules.yaml cannot be read"}
    inside.run.send({"type": "sources", "sources": [gone]})
    wait_until(lambda: len(inside.run.records("egress.rules")) == 3)
    assert inside.run.records("egress.rules")[-1]["problems"] == ["/rules.yaml cannot be read"]
    out = inside.curl("--resolve", f"a.example:80:{address}", "http://a.example/gists").out
    assert "so everything is denied: /rules.yaml cannot be read" in out
    inside.run.send({"type": "sources", "sources": [outside, {"path": "/rules.yaml", "text": text}]})
    wait_until(lambda: len(inside.run.records("egress.rules")) == 4)
    assert inside.curl("http://a.example/gists").out == "hello /gists", "the control"


def test_a_rule_on_connections_that_nobody_looks_into(session: Any, upstream: Upstream) -> None:
    block = """\
  - id: no-database
    on: tcp
    when: tcp.port == 5432
    action: block
"""
    inside = session(host("a.example", 5432, inspect="never"), **to(upstream), **rules(block))
    before = upstream.accepted
    assert inside.client("raw", "a.example", "5432", "3", given="x").out.startswith("<")
    assert inside.run.record("egress.tcp", port=5432)["decision"]["rule"]["id"] == "no-database"
    assert upstream.accepted == before


def test_a_rule_on_names(session: Any, plain: Upstream) -> None:
    block = """\
  - id: no-long-labels
    on: dns
    when: dns.name.startsWith("aaaaaaaa")
    action: block
"""
    inside = session(host("*.w.example", 80), **to(plain), **rules(block))
    out = inside.client("resolve", "aaaaaaaaaa.w.example", "b.w.example").out.splitlines()
    assert out[0].endswith(("-2", "-5", "-3"))
    assert out[1].startswith("b.w.example 198.18.")
