from __future__ import annotations

import pytest

from capsule.sandbox.risks import Remark, risks
from tests.sandbox.plans import plan_of, preset_plan

SECRET = "secrets: [{name: key, from: {env: T}, to: [TO], as: header, field: X-Key, env: KEY}]"


def remarks(text: str) -> list[Remark]:
    return list(risks(plan_of(text)))


def test_ways_around_a_budget_are_told() -> None:
    """A model server of the host's, reached at its port or socket, is not counted: that way leads around egress."""
    ways = "network: {hosts: [a.example], ports: [11434], unix: [/run/llm.sock], budget: {tokens: 1000}}"
    (found,) = [remark for remark in remarks(ways) if "network.budget" in remark.what]
    assert "port 11434 of the host's loopback, the socket /run/llm.sock" in found.what
    assert "upstreams" in found.next_step
    for other in (
        ways.replace(", budget: {tokens: 1000}", ""),
        "network: {hosts: [a.example], budget: {tokens: 9}}",
    ):
        assert not any("network.budget" in remark.what for remark in remarks(other))


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        ("[github.com]", "anybody can publish at github.com"),
        ("[{host: api.github.com, methods: [GET, POST]}]", "anybody can publish at api.github.com"),
        ("['*.github.com']", "anybody can publish at *.github.com"),
        ("[pastebin.com]", "anybody can publish"),
        ("['*.s3.amazonaws.com']", "names beneath *.s3.amazonaws.com can be had by anybody"),
        ("[bucket.s3.amazonaws.com]", "anybody can have bucket.s3.amazonaws.com"),
        ("[{host: '*.workers.dev', methods: [GET]}]", "names beneath *.workers.dev can be had by anybody"),
        ("['*.com']", "*.com covers names of everybody"),
        (
            "[{host: '*.corp.example', private: true}]",
            "every name beneath corp.example may lead into your network",
        ),
        ("[{host: a.example, inspect: never}]", "what passes to a.example is never looked at"),
        ("[api.openai.com]", "api.openai.com serves every account"),
    ],
)
def test_what_gives_away_more_than_it_seems_to(hosts: str, says: str) -> None:
    found = remarks(f"network: {{hosts: {hosts}}}")
    assert any(says in remark.what for remark in found), found
    assert all(remark.origin.line == 2 for remark in found)
    assert str(found[0]).startswith("/w/capsule.yaml:2: ")


@pytest.mark.parametrize(
    "hosts",
    [
        "[a.example, '*.corp.example']",
        "[{host: github.com, methods: [GET, HEAD]}]",
        "[{host: bucket.s3.amazonaws.com, methods: [GET], paths: [/public/**]}]",
        "[{host: 10.0.0.1, private: true, ports: [5432], inspect: never}]",
        "[{host: notgithub.com}]",
    ],
)
def test_what_is_plain_is_not_remarked(hosts: str) -> None:
    assert remarks(f"network: {{hosts: {hosts}}}") == []


def test_the_ways_of_the_whole_network() -> None:
    assert "nothing is looked at or refused" in remarks("network: {mode: open}")[0].what
    (proxy,) = remarks("network: {hosts: [a.example], proxy: 'http://p.example:1'}")
    assert "that this host does not resolve" in proxy.what
    (upstream,) = remarks(
        "network: {hosts: [a.example], upstreams: [{host: b.example, address: '1.1.1.1:1'}]}"
    )
    assert upstream.what == "b.example is sent to 1.1.1.1:1, but no entry of network.hosts covers it"
    assert remarks("network: {mode: none}") == []


def test_what_cannot_be_seen_of_secrets_is_said_with_its_line() -> None:
    never = "network:\n  hosts:\n    - {host: a.example, ports: [443]}\n"
    never += "    - {host: db.example, ports: [5432], inspect: never}\n"
    (unseen,) = remarks(never + SECRET.replace("TO", "a.example"))
    assert str(unseen).startswith(
        "/w/capsule.yaml:5: a placeholder of a secret that is sent to db.example cannot be seen"
    )
    assert remarks(never) == []


def test_the_policys_own_proxy_unseen() -> None:
    hosts = "network: {hosts: [{host: p.example, ports: [3128]INSPECT}], proxy: 'http://p.example:3128'}"
    found = remarks(hosts.replace("INSPECT", ", inspect: never"))
    assert "through it everything can be reached" in found[0].what
    assert not any("everything can be reached" in one.what for one in remarks(hosts.replace("INSPECT", "")))


def test_secrets() -> None:
    plain = "network: {hosts: [{host: a.example, ports: [443]}]}\n" + SECRET.replace("TO", "a.example")
    assert remarks(plain) == []
    (clear,) = remarks(plain.replace("[443]", "[443, 80]"))
    assert clear.what == "the secret 'key' goes to a.example, which may also be reached without encryption"
    assert clear.next_step == "write 'ports: [443]' in its entry (/w/capsule.yaml:2)"
    rented = "network: {hosts: [{host: '*.run.app', ports: [443], credential: key}]}\n" + SECRET.replace(
        "TO", "'*.run.app'"
    )
    assert "names there can be had by anybody" in remarks(rented)[0].what


def test_a_credential_that_another_entry_gives_away() -> None:
    text = (
        "network: {hosts: [{host: a.example, ports: [443], paths: [/x], credential: key},"
        " {host: a.example, ports: [443]}]}\n" + SECRET.replace("TO", "a.example")
    )
    (found,) = remarks(text)
    assert (
        "may carry any credential here, although another entry binds them (/w/capsule.yaml:2)" in found.what
    )
    assert found.next_step == "add 'credential: key'"


@pytest.mark.parametrize(
    "name",
    ["anthropic", "crates", "debian", "github", "go", "google-ai", "npm", "openai", "pypi", "workspace"],
)
def test_no_preset_is_remarked(name: str) -> None:
    assert [str(remark) for remark in risks(preset_plan(name))] == []


@pytest.mark.parametrize(
    ("hosts", "voided"),
    [
        ("[{host: api.acme.test, paths: [/v1/**]}, '*.acme.test']", True),
        ("[{host: api.acme.test, methods: [GET]}, {host: '*.acme.test', methods: [GET, POST]}]", True),
        ("[{host: api.acme.test, paths: [/v1/**]}, api.acme.test]", True),
        (
            "[{host: api.acme.test, paths: [/v1/**], methods: [GET]}, {host: '*.acme.test', methods: [POST]}]",
            False,
        ),
        ("[{host: api.acme.test, paths: [/v1/**]}, {host: '*.acme.test', ports: [8443]}]", False),
        ("[{host: api.acme.test, paths: [/a], methods: [GET]}, {host: api.acme.test, paths: [/b]}]", False),
        ("[api.acme.test, '*.acme.test']", False),
    ],
)
def test_limits_that_a_wider_entry_lets_pass_by(hosts: str, voided: bool) -> None:
    found = [remark for remark in remarks(f"network: {{hosts: {hosts}}}") if "do not hold" in remark.what]
    assert bool(found) is voided
    assert all("api.acme.test" in remark.what for remark in found)
