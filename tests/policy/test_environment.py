from __future__ import annotations

import re
from pathlib import Path

import pytest

from capsule.policy.environment import RUNS_CODE, passes, runs_code


def test_the_launcher_has_the_same_names() -> None:
    source = Path(__file__).parents[2] / "capsule/native/src/supervise/environment.rs"
    found = re.search(r"const RUNS_CODE: \[&str; [0-9]+\] = \[(.*?)\];", source.read_text(), re.DOTALL)
    assert found is not None
    assert tuple(re.findall(r'"([^"]+)"', found[1])) == RUNS_CODE


@pytest.mark.parametrize(
    ("pattern", "name", "may"),
    [
        ("*", "A", True),
        ("*", "LD_PRELOAD", False),
        ("LD_*", "LD_PRELOAD", False),
        ("LD_PRELOAD", "LD_PRELOAD", True),
        ("PYTHON*", "PYTHONPATH", True),
        ("PYTHON*", "PYTHONSTARTUP", False),
        ("A", "B", False),
    ],
)
def test_what_runs_code_passes_by_its_whole_name_only(pattern: str, name: str, may: bool) -> None:
    assert passes(pattern, name) is may


def test_ordinary_names_run_nothing() -> None:
    assert not runs_code("HOME")
    assert runs_code("BASH_FUNC_ls%%")
