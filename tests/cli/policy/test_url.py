from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capsule.cli.policy.access import load_access
from capsule.cli.policy.url import UrlAnswer, event_of, explain_url, rules_of
from capsule.policy.request import parse_request

Ask = Callable[..., UrlAnswer]

POLICY = """version: 1
extends: [workspace]
network:
  hosts:
    - a.example
    - {host: b.example, ports: [443], methods: [GET], credential: key}
    - {host: 10.0.0.1, ports: [5432], inspect: never, private: true}
secrets:
  - {name: key, from: {env: T}, to: [b.example], as: header, field: X-Key, env: KEY}
rules: [./rules.yaml]
"""
RULES = """version: 1
rules:
  - {id: no-put, on: http, when: 'http.method == "PUT"', action: block, reason: nothing is published}
  - {id: ask-post, on: http, when: 'http.method == "POST"', action: ask}
  - {id: header, on: http, when: 'http.host == "a.example" && http.path == "/h" && http.headers["x"] == "y"', action: block}
"""  # noqa: E501


@pytest.fixture
def asked(workspace: Path) -> Ask:
    def ask(text: str, policy: str = POLICY, rules: str = RULES) -> UrlAnswer:
        (workspace / "capsule.yaml").write_text(policy)
        (workspace / "rules.yaml").write_text(rules)
        _, access = load_access(str(workspace / "capsule.yaml"), None)
        return explain_url(access, rules_of(access), parse_request(text))

    return ask


def test_a_host_entry_lets_it_through(asked: Ask) -> None:
    answer = asked("https://b.example/x")
    assert (answer.outcome, answer.inspected, answer.private) == ("allowed", True, False)
    assert answer.grant.rule is not None
    assert answer.grant.rule.origin.line == 6
    assert answer.credential == "key"
    assert [secret.name for secret in answer.secrets] == ["key"]


@pytest.mark.parametrize(
    ("text", "outcome", "rule"),
    [
        ("https://a.example/", "allowed", None),
        ("PUT https://a.example/", "denied", "no-put"),
        ("POST https://a.example/", "asked", "ask-post"),
        ("https://a.example/h", "denied", "header"),
        ("PUT https://b.example/", "denied", None),
        ("PUT https://c.example/", "denied", None),
        ("http://b.example/", "denied", None),
        ("http://10.0.0.1:5432/", "allowed", None),
    ],
)
def test_rules_decide_within_what_is_granted(asked: Ask, text: str, outcome: str, rule: str | None) -> None:
    answer = asked(text)
    assert answer.outcome == outcome
    assert (answer.ruled.rule and answer.ruled.rule.id) == rule


def test_what_a_url_does_not_say_is_named(asked: Ask) -> None:
    assert asked("https://a.example/h").ruled.missing == ("http.headers.x",)


def test_what_is_never_inspected_is_not_ruled(asked: Ask) -> None:
    answer = asked("PUT http://10.0.0.1:5432/")
    assert (answer.outcome, answer.inspected, answer.private, answer.secrets) == ("allowed", False, True, ())


def test_hosts_that_are_not_listed_are_asked_about_when_the_policy_says_so(asked: Ask) -> None:
    policy = POLICY.replace("  hosts:", "  unlisted: ask\n  hosts:")
    assert asked("https://c.example/", policy).outcome == "asked"
    assert asked("PUT https://c.example/", policy).outcome == "denied"
    assert asked("PUT https://b.example/", policy).outcome == "denied", "listed, and refused by its entry"
    assert asked("https://c.example:5432/", policy).outcome == "asked"
    assert asked("https://c.example:22/", policy).outcome == "denied", "nothing listens there"
    metadata = asked("http://169.254.169.254/latest", policy)
    assert metadata.outcome == "denied"
    assert "metadata" in (metadata.address or "")


def test_what_is_not_encrypted_is_looked_at(asked: Ask) -> None:
    policy = "version: 1\nnetwork: {hosts: [a.example]}\n"
    assert not asked("https://a.example/", policy).inspected
    assert asked("http://a.example/", policy).inspected


@pytest.mark.parametrize(("mode", "outcome"), [("none", "denied"), ("open", "allowed")])
def test_without_hosts(asked: Ask, mode: str, outcome: str) -> None:
    assert asked("https://a.example/", f"version: 1\nnetwork: {{mode: {mode}}}\n").outcome == outcome


def test_an_event_says_what_a_url_says_and_no_more() -> None:
    event = event_of(parse_request("POST https://a.example:8443/x?y=1"))
    assert event == {
        "event": {"type": "http"},
        "http": {
            "method": "POST", "scheme": "https", "host": "a.example", "port": 8443, "path": "/x", "query": "y=1",
            "url": "https://a.example:8443/x?y=1",
        },
    }  # fmt: skip
    assert "query" not in event_of(parse_request("https://a.example/"))["http"]


def test_another_spelling_of_a_path_is_not_let_through(asked: Ask) -> None:
    rules = RULES.replace('http.method == "PUT"', 'http.host == "a.example" && http.path == "/gists"')
    for url, outcome in (
        ("https://a.example/gists", "denied"),
        ("https://a.example/%67ists", "denied"),
        ("https://a.example/x/../gists", "denied"),
        ("https://a.example/other", "allowed"),
    ):
        assert asked(url, rules=rules).outcome == outcome, url
