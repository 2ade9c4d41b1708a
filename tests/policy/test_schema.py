from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from capsule.errors import PolicyError
from capsule.policy.parser import parse
from capsule.policy.presets import NAMES, load_preset
from capsule.policy.schema import policy_schema
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.syscalls import groups
from tests.policy.documents import documents, resolve_text, to_yaml

SCHEMA = policy_schema(NAMES, [name for name, group in groups().items() if group.kind == "grant"])
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_what_the_parser_accepts_validates(document: dict[str, Any]) -> None:
    parse(to_yaml(document), "p")
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_presets_validate(name: str) -> None:
    source = load_preset(name)
    assert source is not None
    assert [error.message for error in VALIDATOR.iter_errors(YAML(typ="safe").load(source.data))] == []


WRONG: list[Any] = [None, [], {}, "x y", -1, 1.5, True, "*", "..", {"path": "*"}, ["*"], {"extra": 1}]


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(documents, st.data())
def test_what_the_schema_refuses_the_parser_refuses_too(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """Replace one value or add one key: the schema never says more than the parser."""
    damaged = copy.deepcopy(document)
    node: Any = damaged
    while isinstance(node, (dict, list)) and node:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else list(range(len(node)))))
        if not isinstance(node[key], (dict, list)) or not node[key] or data.draw(st.booleans()):
            node[key] = data.draw(st.sampled_from(WRONG))
            break
        node = node[key]
    if VALIDATOR.is_valid(damaged):
        return
    with pytest.raises(PolicyError):
        parse(to_yaml(damaged), "p")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"version": 2},
        {"version": 1, "unknown": 1},
        {"version": 1, "filesystem": {"raed": []}},
        {"version": 1, "filesystem": {"read": ["*"]}},
        {"version": 1, "filesystem": {"read": ["../x"]}},
        {"version": 1, "filesystem": {"read": "x"}},
        {"version": 1, "network": {"hosts": ["https://a.example"]}},
        {"version": 1, "network": {"hosts": ["a.example:443"]}},
        {"version": 1, "network": {"hosts": [{"host": "a.example", "methods": ["get"]}]}},
        {"version": 1, "network": {"hosts": [{"host": "a.example", "paths": ["/a?b"]}]}},
        {"version": 1, "network": {"budget": {"dollars": "$5"}}},
        {"version": 1, "network": {"proxy": "proxy.example"}},
        {"version": 1, "secrets": [{"name": "key", "value": "x"}]},
        {"version": 1, "secrets": {"key": "x"}},
        {"version": 1, "network": {"ports": [0]}},
        {"version": 1, "limits": {"memory": "2G"}},
        {"version": 1, "require": ["selinux"]},
        {"version": 1, "audit": "off"},
        {"version": 1, "syscalls": {"groups": ["io-uring"]}},
        {"version": 1, "examples": {"allow": [{"read": "a", "write": "b"}]}},
        {"version": 1, "tools": {"t": {"extends": []}}},
        {"version": 1, "env": {"set": {"A": 1}}},
    ],
)
def test_common_mistakes_are_red(document: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(PolicyError):
        compile_policy(resolve_text(to_yaml(document).decode()))
