"""The plans in the binary say what the presets in the package say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from capsule.cli.files import load_policy
from capsule.policy.presets import NAMES
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import decode_plan, encode_plan

PLANS = Path("capsule/native/src/plan/presets")
VECTORS = Path("tests/vectors/plan/good")


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_in_the_binary_is_a_fresh_compilation(name: str, repository: Path) -> None:
    kept = (repository / PLANS / f"{name}.json").read_bytes()
    fresh = encode_plan(compile_policy(load_policy(name)))
    assert kept == fresh, "run: .venv/bin/python scripts/preset_plans.py"


def test_no_plan_is_left_of_a_preset_that_is_gone(repository: Path) -> None:
    assert sorted(path.stem for path in (repository / PLANS).glob("*.json")) == sorted(NAMES)


def test_this_side_writes_the_shared_vectors_byte_for_byte(repository: Path) -> None:
    vectors = sorted((repository / VECTORS).glob("*.json"))
    assert vectors
    for path in vectors:
        text = path.read_bytes()
        assert encode_plan(decode_plan(text)) == text, path.name


def test_the_vectors_are_what_their_maker_writes(repository: Path) -> None:
    before = {path: path.read_bytes() for path in (repository / VECTORS.parent).rglob("*.json")}
    subprocess.run([sys.executable, repository / VECTORS.parent / "make.py"], check=True)
    after = {path: path.read_bytes() for path in (repository / VECTORS.parent).rglob("*.json")}
    assert before == after
