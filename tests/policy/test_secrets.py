from __future__ import annotations

import pytest

from capsule.errors import PolicyError
from capsule.policy.model import Edit, NameEntry, Origin, SecretEntry, SecretSource
from capsule.policy.parser import parse

REST = "to: [a.example], as: header, field: X-Api-Key, env: KEY"


def secrets(text: str) -> Edit[SecretEntry]:
    return parse(f"version: 1\nsecrets: {text}".encode(), "p").sections.secrets


def refused(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        secrets(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("{env: TOKEN}", SecretSource("env", env="TOKEN")),
        ("{file: ~/.token}", SecretSource("file", file="${home}/.token")),
        ("{keyring: {service: maps, user: me}}", SecretSource("keyring", service="maps", user="me")),
        ("{command: [/bin/token, '', x y]}", SecretSource("command", command=("/bin/token", "", "x y"))),
        ("{command: [/bin/t], expires: 15m}", SecretSource("command", command=("/bin/t",), expires=900_000)),
        ("{command: [/bin/t], expires: none}", SecretSource("command", command=("/bin/t",))),
    ],
)
def test_sources(text: str, source: SecretSource) -> None:
    assert secrets(f"[{{name: key, from: {text}, {REST}}}]").add[0].source == source


@pytest.mark.parametrize(
    ("text", "carried", "field", "user"),
    [
        ("as: header, field: Authorization", "header", "Authorization", None),
        ("as: query, field: key", "query", "key", None),
        ("as: basic, user: __token__", "basic", None, "__token__"),
        ("as: basic", "basic", None, None),
        ("as: body", "body", None, None),
    ],
)
def test_ways_of_carrying(text: str, carried: str, field: str | None, user: str | None) -> None:
    entry = secrets(
        f"[{{name: key, from: {{env: T}}, to: ['*.A.example', a.example, '*.a.example'], {text}, env: KEY}}]"
    ).add[0]
    assert (entry.carried, entry.field, entry.user, entry.env) == (carried, field, user, "KEY")
    assert entry.to == ("*.a.example", "a.example")
    assert entry.origin == Origin("p", 2, 18)


def test_edits_go_by_name() -> None:
    assert secrets("{remove: [key]}") == Edit(remove=(NameEntry("key", Origin("p", 2, 20)),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[key]", "is a single value; expected a mapping with name, from, to"),
        ("[{name: key}]", "a secret has no 'from'"),
        (f"[{{name: Key, from: {{env: T}}, {REST}}}]", "a secret's name is 'Key'"),
        (f"[{{name: {'a' * 33}, from: {{env: T}}, {REST}}}]", "at most 32 lower-case letters"),
        (f"[{{name: key, value: hunter2, from: {{env: T}}, {REST}}}]", "unknown key 'value'"),
        (f"[{{name: key, from: T, {REST}}}]", "from is a single value"),
        (f"[{{name: key, from: {{}}, {REST}}}]", "'from' names no source, or more than one"),
        (f"[{{name: key, from: {{env: T, file: x}}, {REST}}}]", "'from' names no source, or more than one"),
        (f"[{{name: key, from: {{env: T, expires: 1m}}, {REST}}}]", "'expires' beside 'env'"),
        (f"[{{name: key, from: {{command: [/t], expires: 5}}, {REST}}}]", "from.expires is '5'"),
        (f"[{{name: key, from: {{env: A-B}}, {REST}}}]", "from.env is 'A-B'"),
        (f"[{{name: key, from: {{file: '*'}}, {REST}}}]", "glob"),
        (f"[{{name: key, from: {{keyring: x}}, {REST}}}]", "from.keyring is a single value"),
        (f"[{{name: key, from: {{keyring: {{service: x}}}}, {REST}}}]", "a keyring's entry needs both names"),
        (f"[{{name: key, from: {{command: token}}, {REST}}}]", "write [token]"),
        (f"[{{name: key, from: {{command: []}}, {REST}}}]", "from.command is empty"),
        (f"[{{name: key, from: {{command: [token]}}, {REST}}}]", "not named by its absolute path; expected /usr/bin/…: it runs on the host"),  # noqa: E501
        (f"[{{name: key, from: {{command: [./token]}}, {REST}}}]", "absolute path"),
        (f"[{{name: key, from: {{command: [/a/../b]}}, {REST}}}]", "'..' segment"),
        (f"[{{name: key, from: {{command: [/a, 1]}}, {REST}}}]", "which is not text"),
        ("[{name: key, from: {env: T}, to: [], as: body, env: K}]", "the secret goes nowhere"),
        ("[{name: key, from: {env: T}, to: a, as: body, env: K}]", "to is a single value"),
        ("[{name: key, from: {env: T}, to: [https://a], as: body, env: K}]", "has a scheme"),
        ("[{name: key, from: {env: T}, to: [a], as: cookie, env: K}]", "as is 'cookie'; expected one of header"),
        ("[{name: key, from: {env: T}, to: [a], as: header, env: K}]", "as 'header' has no 'field'"),
        ("[{name: key, from: {env: T}, to: [a], as: query, env: K}]", "as 'query' has no 'field'"),
        ("[{name: key, from: {env: T}, to: [a], as: body, field: x, env: K}]", "'field' beside 'as: body'"),
        ("[{name: key, from: {env: T}, to: [a], as: header, field: 'A B', env: K}]", "field is 'A B'"),
        ("[{name: key, from: {env: T}, to: [a], as: header, field: Host, env: K}]", "the header Host carries no credentials"),  # noqa: E501
        ("[{name: key, from: {env: T}, to: [a], as: query, field: '', env: K}]", "field is ''"),
        ("[{name: key, from: {env: T}, to: [a], as: body, user: u, env: K}]", "'user' beside 'as: body'"),
        ("[{name: key, from: {env: T}, to: [a], as: basic, user: 'a:b', env: K}]", "no ':' in it"),
        ("[{name: key, from: {env: T}, to: [a], as: body, env: 1K}]", "env is '1K'"),
        ("{remove: [K]}", "an entry of secrets.remove is 'K'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    assert says in refused(text)
