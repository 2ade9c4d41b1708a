from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsule.sandbox.plan import decode_plan, encode_plan
from tests.cli.invoke import invoke


def test_the_plan_is_one_canonical_line(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "policy", "compile", "workspace")
    assert (answer.code, answer.err) == (0, "")
    data = answer.out.encode()
    assert data.endswith(b"}\n")
    assert encode_plan(decode_plan(data)) + b"\n" == data


def test_for_a_tool(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\ntools: {fetch: {audit: all}}")
    assert json.loads(invoke(capsys, "policy", "compile", "capsule.yaml").out)["audit"] == "run"
    assert (
        json.loads(invoke(capsys, "policy", "compile", "capsule.yaml", "--tool", "fetch").out)["audit"]
        == "all"
    )
    answer = invoke(capsys, "policy", "compile", "capsule.yaml", "--tool", "fecth")
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean 'fetch'?" in answer.err


def test_seatbelt(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "policy", "compile", "workspace", "--target", "seatbelt")
    assert answer.out.startswith("(version 1)\n(deny default)\n")
    value = json.loads(invoke(capsys, "policy", "compile", "workspace", "--target", "seatbelt", "--json").out)
    assert value["seatbelt"] == answer.out


def test_seatbelt_refuses_hosts(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nnetwork:\n  hosts: [api.example.org]")
    for extra in ([], ["--json"]):
        answer = invoke(capsys, "policy", "compile", "capsule.yaml", "--target", "seatbelt", *extra)
        assert (answer.code, answer.out[:9]) == (125, '{"error":' if extra else "")
        assert "capsule.yaml:3: network.mode is 'hosts'" in answer.err
        assert "hosts reached by name cannot be written in a Seatbelt profile" in answer.err
        assert "network: mode: none" in answer.err
    # The control: the same policy is a plan.
    assert invoke(capsys, "policy", "compile", "capsule.yaml").code == 0


def test_nothing_is_printed_when_the_policy_is_wrong(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text("version: 2")
    answer = invoke(capsys, "policy", "compile", "capsule.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert "capsule.yaml:1:10" in answer.err
