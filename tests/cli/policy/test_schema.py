from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from tests.cli.invoke import invoke


def test_the_schema_is_printed_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "policy", "schema")
    assert answer.code == 0
    assert answer.out.count("\n") > 50
    schema = json.loads(answer.out)
    Draft202012Validator.check_schema(schema)
    assert json.loads(invoke(capsys, "policy", "schema", "--json").out) == schema
    assert Draft202012Validator(schema).is_valid({"version": 1, "extends": ["workspace"]})
