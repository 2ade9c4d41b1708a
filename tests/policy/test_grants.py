from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.cli.files import FileLoader
from capsule.policy.grants import MODEL_HOSTS, Grants, Refusal, covers, would_reach
from capsule.policy.merge import resolve
from capsule.policy.model import Source


@dataclass(frozen=True)
class Entry:
    host: str
    ports: tuple[int, ...] = (443, 80)
    methods: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    inspect: str = "auto"
    private: bool = False
    credential: str | None = None


@dataclass(frozen=True)
class To:
    to: tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    requests: int | None = None
    bytes: int | None = None
    tokens: int | None = None
    microdollars: int | None = None


@dataclass(frozen=True)
class Section:
    hosts: Sequence[Entry]
    secrets: Sequence[To] = ()
    rules: Sequence[Any] = ()
    budget: Bounds = field(default_factory=Bounds)


def grants(*entries: Entry, **more: Any) -> Grants[Entry, To]:
    return Grants(Section(entries, **more))


def refused(found: Entry | Refusal) -> Refusal:
    assert isinstance(found, Refusal)
    return found


def test_nothing_listed_is_nothing_reached() -> None:
    """An empty list is closed, not open."""
    none = grants()
    assert none.names("a.example") is None
    assert none.at("a.example", 443) == ()
    found = refused(none.request("a.example", 443, "GET", "/"))
    assert found.reason == "no host entry lists a.example"
    assert found.allow == "network: hosts: [a.example]"


def test_names() -> None:
    exact, wild = Entry("a.example"), Entry("*.b.example", ports=(8443,))
    found = grants(wild, exact)
    assert found.names("a.example") is exact
    assert found.names("a.example", 443) is exact
    assert found.names("a.example", 8443) is None
    assert found.names("x.b.example") is wild
    assert found.names("y.x.b.example", 8443) is wild
    for name in (
        "b.example",
        "xb.example",
        "b.example.evil",
        "a.example.evil",
        "evila.example",
        "example",
        "",
    ):
        assert found.names(name) is None, name


def test_the_most_specific_entry_comes_first() -> None:
    wide, narrow, exact = Entry("*.example"), Entry("*.b.example"), Entry("a.b.example")
    found = grants(wide, narrow, exact)
    assert found.at("a.b.example", 443) == (exact, narrow, wide)
    assert found.names("a.b.example") is exact
    assert found.names("c.b.example") is narrow


def test_requests() -> None:
    read = Entry("api.example", (443,), ("GET", "HEAD"), ("/repos/acme/**",))
    post = Entry("api.example", (443,), ("POST",), ("/graphql",))
    found = grants(read, post)
    assert found.request("api.example", 443, "GET", "/repos/acme/site?per_page=1") is read
    assert found.request("api.example", 443, "POST", "/graphql") is post
    for port, method, path, says in (
        (80, "GET", "/repos/acme/site", "no entry of api.example has port 80"),
        (443, "PUT", "/repos/acme/site", "has the method PUT"),
        (443, "get", "/repos/acme/site", "has the method get"),
        (443, "POST", "/repos/acme/site", "has the path /repos/acme/site"),
        (443, "GET", "/graphql", "has the path /graphql"),
        (443, "GET", "/repos/acme/../other", "'.' or '..' segment"),
        (443, "GET", "/repos/acme%2f..%2fother", "encoded"),
        (443, "GET", "//repos/acme", "empty segment"),
        (443, "CONNECT", "evil.example:443", "has the method CONNECT"),
        (443, "GET", "*", "does not begin"),
    ):
        answer = refused(found.request("api.example", port, method, path))
        assert says in answer.reason
        assert "network: hosts: [" in answer.allow


def test_what_any_alternative_lets_through_is_let_through() -> None:
    narrow, wide = Entry("a.example", paths=("/x",)), Entry("a.example", methods=("GET",))
    found = grants(narrow, wide)
    assert found.request("a.example", 443, "GET", "/%2f") is wide
    assert found.request("a.example", 443, "GET", "/y") is wide
    assert found.request("a.example", 443, "POST", "/x") is narrow
    assert isinstance(found.request("a.example", 443, "POST", "/y"), Refusal)


def test_of_several_alternatives_the_one_that_asks_least_answers() -> None:
    bound, free = Entry("a.example", credential="key"), Entry("*.example")
    within = Entry("*.example", private=True)
    assert grants(bound, free).request("a.example", 443, "GET", "/") is free
    assert grants(bound).request("a.example", 443, "GET", "/") is bound
    assert grants(free, within).request("a.example", 443, "GET", "/") is within


def test_secrets_of_a_host() -> None:
    one, two = To(("a.example",)), To(("*.example",))
    found = grants(Entry("*.example"), secrets=(one, two))
    assert found.secrets("a.example") == (one, two)
    assert found.secrets("b.example") == (two,)
    assert found.secrets("example") == ()


@pytest.mark.parametrize(
    ("entries", "more", "looks"),
    [
        ((Entry("a.example"),), {}, False),
        ((Entry("a.example", inspect="always"),), {}, True),
        ((Entry("a.example", methods=("GET",)),), {}, True),
        ((Entry("a.example", paths=("/",)),), {}, True),
        ((Entry("a.example", credential="k"),), {}, True),
        ((Entry("a.example"), Entry("a.example", methods=("GET",))), {}, True),
        ((Entry("a.example"), Entry("*.example", inspect="always")), {}, True),
        ((Entry("a.example", (8443,)), Entry("a.example", methods=("GET",), ports=(9,))), {}, False),
        ((Entry("a.example"),), {"secrets": (To(("a.example",)),)}, True),
        ((Entry("a.example"),), {"secrets": (To(("b.example",)),)}, True),
        ((Entry("a.example"),), {"rules": ("r",)}, True),
        ((Entry("a.example"),), {"budget": Bounds(tokens=1)}, True),
        ((Entry("a.example"),), {"budget": Bounds(microdollars=1)}, True),
        ((Entry("a.example"),), {"budget": Bounds(requests=1)}, True),
        ((Entry("a.example"),), {"budget": Bounds(bytes=1)}, False),
        ((Entry("a.example", inspect="never"),), {"rules": ("r",)}, False),
        ((Entry("a.example", inspect="never"),), {"secrets": (To(("b.example",)),)}, False),
        ((Entry("a.example", inspect="never"), Entry("*.example", methods=("GET",))), {}, False),
        ((Entry("a.example"), Entry("*.example", inspect="never")), {}, False),
        ((Entry("*.example", inspect="never"), Entry("a.example", inspect="always")), {}, True),
    ],
)
def test_inspection(entries: tuple[Entry, ...], more: dict[str, Any], looks: bool) -> None:
    port = entries[0].ports[0]
    assert grants(*entries, **more).needs_inspection("a.example", port) is looks


def test_model_providers_are_inspected_and_what_is_not_listed_only_for_rules() -> None:
    assert grants(Entry(MODEL_HOSTS[0])).needs_inspection(MODEL_HOSTS[0], 443)
    assert not grants(Entry(MODEL_HOSTS[0], inspect="never")).needs_inspection(MODEL_HOSTS[0], 443)
    assert not grants().needs_inspection("a.example", 443)
    assert grants(rules=("r",)).needs_inspection("a.example", 443)


@pytest.mark.parametrize(
    ("entries", "private"),
    [
        ((Entry("a.example"),), False),
        ((Entry("a.example", private=True),), True),
        ((Entry("a.example", (8443,), private=True), Entry("a.example")), False),
        ((Entry("a.example"), Entry("*.example", private=True)), True),
        ((Entry("a.example", inspect="never"), Entry("*.example", private=True)), False),
        ((Entry("a.example", inspect="never"), Entry("*.example", (8443,), private=True)), False),
        ((Entry("b.example", private=True),), False),
    ],
)
def test_private_is_of_what_lets_a_connection_pass(entries: tuple[Entry, ...], private: bool) -> None:
    assert grants(*entries).private("a.example", 443) is private


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("a.b", "a.b", True),
        ("a.b", "x.a.b", False),
        ("*.b", "a.b", True),
        ("*.b", "a.a.b", True),
        ("*.b", "b", False),
        ("*.b", ".b", False),
        ("*.b", "ab", False),
        ("*.b", "*.b", True),
        ("*.b", "*.a.b", True),
        ("*.a.b", "*.b", False),
        ("a.b", "*.b", False),
    ],
)
def test_covers(pattern: str, host: str, covered: bool) -> None:
    assert covers(pattern, host) is covered


_HOSTS = st.sampled_from(["a.x", "b.x", "a.b.x", "x", "y", "*.x", "*.b.x"])
_ENTRIES = st.builds(
    Entry,
    _HOSTS,
    st.lists(st.sampled_from([80, 443]), min_size=1, max_size=2, unique=True).map(tuple),
    st.none() | st.lists(st.sampled_from(["GET", "PUT"]), max_size=2).map(tuple),
    st.none() | st.lists(st.sampled_from(["/a", "/a/*", "/**"]), max_size=2).map(tuple),
)


@given(
    st.lists(_ENTRIES, max_size=5),
    st.sampled_from(["a.x", "b.x", "a.b.x", "x", "y", "z"]),
    st.sampled_from([80, 443, 22]),
    st.sampled_from(["GET", "PUT", "DELETE"]),
    st.sampled_from(["/", "/a", "/a/b", "/a/b/c"]),
)
def test_a_request_is_granted_exactly_when_some_entry_alone_grants_it(
    entries: list[Entry], host: str, port: int, method: str, path: str
) -> None:
    together = grants(*entries).request(host, port, method, path)
    alone = [grants(entry).request(host, port, method, path) for entry in entries]
    assert isinstance(together, Refusal) == all(isinstance(found, Refusal) for found in alone)
    if isinstance(together, Entry):
        assert covers(together.host, host)
        assert port in together.ports


@pytest.mark.parametrize(
    ("address", "port", "line"),
    [
        ("127.0.0.1", 80, "network: ports: [80]"),
        ("169.254.169.254", 80, "network: hosts: [{host: 169.254.169.254, private: true}]"),
        ("10.0.0.5", 8443, "network: hosts: [{host: 10.0.0.5, ports: [8443], private: true}]"),
        ("93.184.216.34", 443, "network: hosts: [93.184.216.34]"),
        ("a.example", 8443, "network: hosts: [{host: a.example, ports: [8443]}]"),
    ],
)
def test_the_line_that_would_allow_it_is_one_the_policy_takes(address: str, port: int, line: str) -> None:
    assert would_reach(address, port) == line
    section, _, entry = line.partition(": ")
    text = f"version: 1\nextends: [workspace]\n{section}:\n  {entry}\n"
    assert resolve(Source("/w/p.yaml", text.encode()), FileLoader())
