"""Grants, then rules, then an ask or the default: without a socket in sight."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from capsule.egress.frames import Egress
from capsule.egress.judgement import ASK_TIMEOUT_MS, Judge
from capsule.egress.verdict import Verdict
from capsule.policy.urlpath import plain_path
from capsule.rules.engine import broken, compile_rules
from capsule.rules.rule import parse_rules
from tests.egress.supervisor import host, plan


def judge(*hosts: dict[str, Any], rules: str = "", **fields: Any) -> Judge:
    files = [parse_rules("version: 1\nrules:\n" + rules, "rules.yaml")] if rules else []
    return Judge(msgspec.convert(plan(*hosts, **fields), Egress), compile_rules(files))


def request(
    name: str = "a.example", method: str = "GET", path: str = "/x", port: int = 443
) -> dict[str, Any]:
    http = {"host": name, "port": port, "method": method, "path": path, "scheme": "https", "headers": {}}
    return {"event": {"id": "e", "type": "http", "time": "2026-01-01T00:00:00Z"}, "run": "r", "http": http}


def rule(action: str, when: str = '"true" == "true"', priority: int = 500, extra: str = "") -> str:
    named = f"id: r-{action}-{priority}, on: http, when: '{when}', action: {action}"
    return f"  - {{{named}, priority: {priority}{extra}}}\n"


@pytest.mark.parametrize(
    "header",
    [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x_http_method_override",
        "x.http.method",
        "",
    ],
)
def test_another_method_in_a_header_is_the_requests_own(header: str) -> None:
    """Servers that know the header do what it says; where the entry names no methods nothing is lost."""
    limited = judge(host("a.example", 443, methods=["GET", "POST"]))
    open_ = judge(host("a.example", 443))
    for method, passes in (("DELETE", False), ("delete", False), ("GET, DELETE", False), ("get", True)):
        if not header and "," in method:
            continue
        event = request(method="POST")
        if header:
            event["http"]["headers"][header] = method
        else:
            event["http"]["query"] = f"a=1&_meth%6Fd={method}"
        assert limited.request(event, "request").verdict.allowed is passes
        assert open_.request(event, "request").verdict.allowed


@pytest.mark.parametrize("header", ["x-http-method-override", "x_method_override", ""])
def test_a_rule_on_methods_holds_whatever_is_said_beside_the_method(header: str) -> None:
    """What a server takes for the method is not known then: a rule that keeps one out holds, one that lets in not."""
    blocks = judge(host("a.example"), rules=rule("block", 'http.method == "DELETE"'))
    only = judge(host("a.example"), rules=rule("block", 'http.method != "POST"'))
    listed = judge(host("a.example"), rules=rule("block", 'http.method in ["PUT", "DELETE"]'))
    lets = judge(unlisted="ask", rules=rule("allow", 'http.method == "POST"'))
    for method, same in (("DELETE", False), ("delete", False), ("POST, DELETE", False), ("post", True)):
        if not header and "," in method:
            continue
        event = request(method="POST")
        if header:
            event["http"]["headers"][header] = method
        else:
            event["http"]["query"] = f"_method={method}"
        for judging in (blocks, only, listed):
            verdict = judging.request(event, "request").verdict
            assert verdict.allowed is same, (method, verdict)
            if not same:
                assert verdict.missing == ("http.method",)
        assert lets.request(event, "request").asks is not None, "an unlisted host stays one"
    event = request(method="POST")
    for judging in (blocks, only, listed):
        assert judging.request(event, "request").verdict.allowed, "the control: nothing said beside it"
    assert not blocks.request(request(method="DELETE"), "request").verdict.allowed


@pytest.mark.parametrize("name", ["x-client-id", "X_Client_Id", "x.client-id", "x_client.id"])
def test_a_rule_on_a_header_holds_for_every_name_that_gateways_take_for_it(name: str) -> None:
    """The attack: `x_client_id` goes past the rule, and the server has it as `x-client-id` (RFC 3875 §4.1.18)."""
    there = judge(host("a.example"), rules=rule("block", '"x-client-id" in http.headers'))
    value = judge(host("a.example"), rules=rule("block", 'http.headers["x-client-id"].contains("7")'))
    agent = judge(host("a.example"), rules=rule("block", 'http.user_agent.startsWith("bad")'))
    for judging in (there, value):
        event = request()
        event["http"]["headers"] = {name.lower(): "7"}
        assert not judging.request(event, "request").verdict.allowed
        event["http"]["headers"] = {"x-client-id": "1", name.lower(): "7"}
        assert not judging.request(event, "request").verdict.allowed
        assert list(event["http"]["headers"]) == list(dict.fromkeys(["x-client-id", name.lower()])), (
            "the record's own"
        )
        event["http"]["headers"] = {"x-client-ids": "7"}
        assert judging.request(event, "request").verdict.allowed is (judging is there), "the control"
    event = request()
    event["http"]["headers"] = {"user_agent": "bad"}
    assert not agent.request(event, "request").verdict.allowed
    event["http"] |= {"headers": {"user-agent": "good"}, "user_agent": "good"}
    assert agent.request(event, "request").verdict.allowed, "the control"


@pytest.mark.parametrize("header", ["x-original-url", "x-rewrite-url", "x_original-url"])
def test_another_path_in_a_header_is_the_requests_own(header: str) -> None:
    """Servers that know the header serve what it says; of two headers nobody knows which."""
    limited = judge(host("a.example", paths=["/v1/**"]))
    open_ = judge(host("a.example"))
    blocks = judge(host("a.example"), rules=rule("block", 'http.path.startsWith("/admin")'))
    for path, passes in (
        ("/v1/y", True), ("/admin", False), ("/v1/../admin", False), ("/v1/y, /admin", False), ("/v1/%2e%2e/a", False),
        ("https://a.example/admin", False),
    ):  # fmt: skip
        event = request(path="/v1/x")
        event["http"]["headers"][header] = path
        verdict = limited.request(event, "request").verdict
        assert verdict.allowed is passes, path
        if not passes:
            assert verdict.reason.startswith(f"header {header} asks the server for /") or "https" in path
        assert open_.request(event, "request").verdict.allowed
        # What a rule decides by is not known then.
        assert not blocks.request(event, "request").verdict.allowed, path
    event = request(path="/v1/x")
    event["http"]["headers"][header] = "/v1/x"
    assert blocks.request(event, "request").verdict.allowed


@pytest.mark.parametrize("parameter", ["_method", ".method", "%5Bmethod", "+_meth%6Fd", "_METHOD"])
def test_a_parameter_is_the_field_as_some_server_spells_it(parameter: str) -> None:
    limited = judge(host("a.example", methods=["GET", "POST"]))
    event = request(method="POST")
    event["http"]["query"] = f"a=1&{parameter}=DELETE"
    assert not limited.request(event, "request").verdict.allowed
    event["http"]["query"] = f"a=1&x{parameter}=DELETE"
    assert limited.request(event, "request").verdict.allowed


def test_a_method_that_a_body_asks_for_is_judged_as_the_requests_own() -> None:
    limited = judge(host("a.example", methods=["POST", "PUT"]))
    ruled = judge(host("a.example"), rules=rule("block", 'http.method == "DELETE"'))
    asking = judge(host("a.example"), rules=rule("ask", 'http.method == "DELETE"'))
    open_ = judge(host("a.example"), rules=rule("block", 'http.path == "/y"'))
    event = request(method="POST")
    entry = limited.request(event, "request").entry
    for judging, of in ((limited, entry), (ruled, None), (asking, None)):
        assert judging.heeds_methods(event, of)
        assert not judging.heeds_methods(request(), of), "servers take it from a POST"
        refused = judging.asked_in_body(event, ("PUT", "POST", "DELETE"), of)
        assert refused is not None
        assert refused.reason.startswith("its field _method asks the server for DELETE: ")
        assert judging.asked_in_body(event, ("PUT", "POST"), of) is None
    assert not open_.heeds_methods(event, open_.request(event, "request").entry)


def test_a_method_of_a_body_needs_no_other_credential() -> None:
    judging = judge(host("a.example", methods=["POST"]), host("a.example", methods=["PUT"], credential="key"))
    event = request(method="POST")
    entry = judging.request(event, "request").entry
    refused = judging.asked_in_body(event, ("PUT",), entry)
    assert refused is not None
    assert "needs the credential key" in refused.reason


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
def test_where_webdav_writes_is_a_path_of_the_request(method: str) -> None:
    limited = judge(host("a.example", paths=["/mine/**"]))
    blocks = judge(host("a.example"), rules=rule("block", 'http.path.startsWith("/other")'))
    for said, passes in (
        ("/mine/y", True), ("https://a.example/mine/y", True), ("/other", False), ("https://a.example/other/y", False),
        ("https://a.example/mine/%2e%2e/other", False), ("/mine/../other", False),
    ):  # fmt: skip
        event = request(method=method, path="/mine/x")
        event["http"]["headers"]["destination"] = said
        assert limited.request(event, "request").verdict.allowed is passes, said
        assert not blocks.request(event, "request").verdict.allowed, said
        event["http"] |= {"method": "POST"}
        assert limited.request(event, "request").verdict.allowed, (
            "the control: another method means nothing by it"
        )
        event["http"]["headers"]["x-http-method-override"] = method
        assert limited.request(event, "request").verdict.allowed is passes, said


def test_a_method_and_a_path_asked_for_otherwise_count_together() -> None:
    limited = judge(
        host("a.example", methods=["POST", "DELETE"], paths=["/a"]),
        host("a.example", methods=["POST"], paths=["/b"]),
    )
    event = request(method="POST", path="/a")
    event["http"]["headers"] = {"x-original-url": "/b"}
    assert limited.request(event, "request").verdict.allowed
    event["http"]["headers"] = {"x-http-method-override": "DELETE"}
    assert limited.request(event, "request").verdict.allowed
    event["http"]["headers"]["x-original-url"] = "/b"
    verdict = limited.request(event, "request").verdict
    assert not verdict.allowed
    assert verdict.reason == (
        "header x-http-method-override and header x-original-url ask the server for DELETE /b: "
        "no entry of a.example has the path /b"
    )


def test_another_path_needs_no_other_credential() -> None:
    """Else a server that knows the header would be asked for it with a credential of the sandbox's own."""
    judging = judge(
        host("a.example", paths=["/public/**"]), host("a.example", paths=["/private/**"], credential="key")
    )
    event = request(path="/public/x")
    assert judging.request(event, "request").verdict.allowed
    event["http"]["headers"]["x-original-url"] = "/public/y"
    assert judging.request(event, "request").verdict.allowed
    event["http"]["headers"]["x-original-url"] = "/private/y"
    verdict = judging.request(event, "request").verdict
    assert (verdict.allowed, verdict.by) == (False, "grant")
    assert verdict.reason.endswith("/private/y: that needs the credential key")


@pytest.mark.parametrize("header", ["x-original-url", "x-http-method-override"])
def test_a_request_asks_for_few_things_at_once(header: str) -> None:
    limited = judge(host("a.example", paths=["/x", "/**"]))
    event = request()
    event["http"]["headers"][header] = ", ".join(f"/{n}" for n in range(8))
    assert limited.request(event, "request").verdict.allowed
    event["http"]["headers"][header] += ", /8"
    assert "more than 8 other" in limited.request(event, "request").verdict.reason
    event["http"]["headers"][header] = ", ".join(["/x"] * 5000)
    assert limited.request(event, "request").verdict.allowed, "the same again is one"


SPELLINGS = ["/%67ists", "/./gists", "/x/../gists", "//gists", "/gists;x", "/x/%2e%2e/gists", "/%2567ists",
             "/a%2f..%2fgists", "/\\gists", "/gists%00"]  # fmt: skip


def test_a_rule_on_a_path_holds_for_every_spelling_of_it() -> None:
    blocks = judge(host("a.example"), rules=rule("block", 'http.path.startsWith("/gists")'))
    only = judge(
        host("a.example"), rules=rule("block", '!(http.host == "a.example" && http.path.startsWith("/x/"))')
    )
    other = judge(host("a.example"), rules=rule("block", 'http.host == "b.example" && http.path == "/gists"'))
    for target in SPELLINGS:
        event = request(path=plain_path(target))
        event["http"]["url"] = f"https://a.example{target}"
        assert not blocks.request(event, "request").verdict.allowed, target
        assert not only.request(event, "request").verdict.allowed, target
        assert other.request(event, "request").verdict.allowed, (
            "the control: another host's rule is not asked"
        )
    event = request(path="/x/y")
    assert blocks.request(event, "request").verdict.allowed, "the control"
    assert only.request(event, "request").verdict.allowed, "the control"


@pytest.mark.parametrize(
    "query", ["to=public", "to=%70ublic", "to=publi%63", "t%6F=%70%75%62%6c%69%63", "a=%2f&to=public"]
)
def test_a_rule_on_a_query_or_a_url_holds_for_every_spelling_of_it(query: str) -> None:
    """Escapes of letters and digits mean these to every server; what is recorded and sent stays as it was."""
    for when in ('http.query.contains("to=public")', 'http.url.contains("to=public")'):
        asked = judge(host("a.example", 443), rules=rule("block", when))
        event = request()
        event["http"] |= {"query": query, "url": f"https://a.example/x?{query}"}
        assert not asked.request(event, "request").verdict.allowed, when
        assert event["http"]["query"] == query
        event["http"] |= {"query": "to=publi%2563", "url": "https://a.example/x?to=publi%2563"}
        assert asked.request(event, "request").verdict.allowed


def test_escapes_that_mean_something_stay_as_they_are() -> None:
    asked = judge(host("a.example", 443), rules=rule("block", 'http.query == "a=%2f%26%c3%A9%zz+b"'))
    event = request()
    event["http"] |= {"query": "a=%2f%26%c3%A9%zz+%62", "url": "https://a.example/x"}
    assert not asked.request(event, "request").verdict.allowed


def test_globs_see_the_path_as_it_was_sent() -> None:
    paths = judge(host("a.example", paths=["/x/**"]))
    for target, passes in (("/x/y", True), ("/%78/y", True), ("/x/../x/y", False), ("/x/%2e%2e/x/y", False)):
        event = request(path=plain_path(target))
        event["http"]["url"] = f"https://a.example{target}"
        assert paths.request(event, "request").verdict.allowed is passes, target


def test_an_entry_lets_through_and_says_which() -> None:
    judged = judge(host("a.example")).request(request(), "request")
    assert judged.verdict.entry() == {
        "action": "allow", "by": "grant", "rule": {"id": "network.hosts a.example", "file": "capsule.yaml", "line": 3},
    }  # fmt: skip
    assert judged.entry is not None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request("b.example"), "no host entry lists b.example"),
        (request(port=8443), "no entry of a.example has port 8443"),
        (request(method="POST"), "no entry of a.example has the method POST"),
        (request(path="/y"), "no entry of a.example has the path /y"),
        (request(path="/x/%2e%2e/y"), "the path has an encoded"),
    ],
)
def test_nothing_else_goes(asked: dict[str, Any], reason: str) -> None:
    found = judge(host("a.example", methods=["GET"], paths=["/x", "/x/**"])).request(asked, "request").verdict
    assert (found.action, found.by) == ("block", "grant")
    assert found.reason.startswith(reason)
    assert found.allow


def test_rules_take_away_but_never_add() -> None:
    allowing = judge(host("a.example"), rules=rule("allow"))
    assert allowing.request(request(), "request").verdict.by == "rule"
    assert not allowing.request(request("b.example"), "request").verdict.allowed
    blocking = judge(host("a.example"), rules=rule("block")).request(request(), "request")
    assert (blocking.verdict.action, blocking.verdict.by) == ("block", "rule")
    restored = judge(host("a.example"), rules=rule("block") + rule("allow", priority=100))
    assert restored.request(request(), "request").verdict.allowed


def test_a_rewrite_names_its_rule() -> None:
    edits = ", rewrite: [{remove_header: x}]"
    one = judge(host("a.example"), rules=rule("rewrite", extra=edits)).request(request(), "request").verdict
    assert one.rule is not None
    assert (one.action, one.by, one.rule["id"], one.rule["file"], one.rule["line"]) == (
        "rewrite", "rule", "r-rewrite-500", "rules.yaml", 3,
    )  # fmt: skip
    two = rule("rewrite", extra=edits) + rule("rewrite", priority=600, extra=edits)
    found = judge(host("a.example"), rules=two).request(request(), "request").verdict
    assert found.reason == "it is also edited by r-rewrite-600 (rules.yaml:4)"


def test_who_is_asked_and_for_how_long() -> None:
    asked = judge(host("a.example"), rules=rule("ask", extra=", ask_timeout: 7s")).request(
        request(), "request"
    )
    assert asked.asks == 7000
    assert not asked.verdict.allowed, "until somebody says yes"
    unlisted = judge(host("a.example"), unlisted="ask")
    found = unlisted.request(request("b.example"), "request")
    assert (found.asks, found.verdict.by) == (ASK_TIMEOUT_MS, "default")
    assert unlisted.request(request(method="GET", port=8443), "request").asks is None, "the host is listed"
    both = judge(host("a.example"), unlisted="ask", rules=rule("block"))
    assert both.request(request("b.example"), "request").asks is None


def test_a_rule_that_reads_the_body_waits() -> None:
    found = judge(host("a.example"), rules=rule("block", 'http.body.text.contains("x")'))
    assert found.request(request(), "request").pending
    event = request()
    event["http"]["body"] = {"size": 1, "text": "y", "truncated": False}
    assert found.request(event, "body").verdict.allowed


def test_a_rule_knows_how_long_a_name_is() -> None:
    long = "dns.length > 20 || dns.labels > 3 || dns.entropy > 3.5"
    found = judge(host("*.w.example"), rules=rule("block", long).replace("on: http", "on: dns"))
    assert found.name("a.w.example", "A", "udp").allowed, "the control"
    for name in ("a" * 12 + ".w.example", "a.b.w.example", "abcdefghijklm.w.example"):
        assert not found.name(name, "A", "udp").allowed, name


def test_names() -> None:
    found = judge(host("a.example"), host("*.w.example"))
    assert found.name("a.example", "A", "udp").allowed
    assert found.name("b.w.example", "A", "udp").allowed
    for name in ("w.example", "b.example", "aa.example"):
        assert found.name(name, "A", "udp").entry()["action"] == "block"
    assert judge(unlisted="ask").name("b.example", "A", "udp").allowed


def test_connections_and_who_looks_into_them() -> None:
    found = judge(
        host("a.example", 443, inspect="auto"),
        host("n.example", 443, inspect="never"),
        host("m.example", 443, inspect="auto", methods=["GET"]),
    )
    assert [found.inspects(name, 443) for name in ("a.example", "n.example", "m.example")] == [
        False,
        False,
        True,
    ]
    assert not found.connection("a.example", 80)[0].allowed
    event = {
        "event": {"id": "", "type": "tcp", "time": ""},
        "run": "r",
        "tcp": {"host": "a.example", "port": 443},
    }
    assert found.passing(event).verdict.allowed
    block = "  - {id: x, on: tcp, when: 'tcp.port == 443', action: block}\n"
    assert not judge(host("a.example", 443, inspect="never"), rules=block).passing(event).verdict.allowed


def test_broken_rules_deny_everything() -> None:
    found = judge(host("a.example"))
    found.rules = broken("rules.yaml:3:5: no")
    verdict = found.request(request(), "request").verdict
    assert not verdict.allowed
    assert "rules.yaml:3:5: no" in verdict.reason
    assert not found.name("a.example", "A", "udp").allowed


NAMES = """\
  - {id: block-forge, on: mcp, when: 'mcp.server == "forge" && mcp.tool == "a"', action: block}
  - {id: ask-forge, on: mcp, when: 'mcp.server == "forge" && mcp.tool == "b"', action: ask}
  - {id: ask-host, on: mcp, when: 'mcp.server == "a.example" && mcp.tool in ["a", "b", "c"]', action: ask}
  - {id: find-all, on: mcp, when: 'true', action: allow, priority: 900, level: informational}
"""


@pytest.mark.parametrize(
    ("tool", "asked", "by"),
    [("a", (), "block-forge"), ("b", ("ask-host", "ask-forge"), None), ("c", ("ask-host",), None), ("d", (), None)],
)  # fmt: skip
def test_of_a_server_with_two_names_the_stricter_decides(
    tool: str, asked: tuple[str, ...], by: str | None
) -> None:
    judging = judge(host("a.example"), rules=NAMES)
    event = {"event": {"type": "mcp"}, "mcp": {"server": "a.example", "method": "tools/call", "tool": tool}}
    granted = Verdict("allow", "grant", "")
    alone = judging.message(event, granted, None)
    judging.also_known = {"a.example": ("forge", "other")}
    judged = judging.message(event, granted, None)
    assert alone.further == ()
    asks = (judged, *judged.further) if judged.asks is not None else ()
    assert tuple(one.verdict.rule["id"] for one in asks if one.verdict.rule is not None) == asked
    if by is not None:
        assert judged.verdict.rule is not None
        assert judged.verdict.rule["id"] == by
    assert judged.verdict.allowed is (tool == "d")
    assert [noted.rule.id for noted in judged.findings].count("find-all") == 1
    other = {**event, "mcp": {**event["mcp"], "server": "b.example"}}
    assert judging.message(other, granted, None).verdict.allowed, "the control"


def test_whether_rules_decide_is_asked_under_each_name() -> None:
    judging = judge(
        host("a.example"), rules="  - {id: r, on: mcp, when: 'mcp.server == \"forge\"', action: block}\n"
    )
    assert not judging.decides_messages("a.example")
    judging.also_known = {"a.example": ("other", "forge")}
    assert judging.decides_messages("a.example")
    assert not judging.decides_messages("b.example")
