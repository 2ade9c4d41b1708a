"""What holds for the acts of every family: their text stands alone, and their ids and judges are in order."""

from __future__ import annotations

import ast
import builtins
import re
from importlib import resources
from pathlib import Path

from capsule.attack.case import Act, Case, Family, Verdict, text_of
from capsule.attack.runner import IMPORTS, Arena
from tests.attack.launchers import launcher

INSIDE = ast.parse(resources.files("capsule.attack").joinpath("inside.py").read_text())


def known() -> set[str]:
    """Names an act finds when its text runs: builtins, the imports sent along, and inside.py's own."""
    names = set(dir(builtins)) | {name.strip() for name in IMPORTS.split(",")}
    for node in INSIDE.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


def strangers(act: Act) -> set[str]:
    """Names an act's text uses that would not be there inside."""
    tree = ast.parse(text_of(act))
    used = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    made = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    made |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    made |= {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    annotations = {"Inside", "object"}
    return used - made - known() - annotations


# What reaches beyond the stage. An act whose text has one of these must ask `elsewhere` first.
FAR = (
    "os.kill, -1",
    "os.kill, 1,",
    "getppid(), ",
    "/proc/1/fd",
    "/proc/1/mem",
    '"/dev/console"',
    '"mount"',
    '"/dev/mem"',
)


def check(family: Family) -> None:
    """Every case of the family is well made."""
    for case in family.cases:
        assert re.fullmatch(r"[a-z]+\.[a-z0-9-]+", case.id), case.id
        assert len(case.id) <= 29, case.id
        assert 10 <= len(case.title) <= 100, case.id
        for act in filter(None, (case.act, case.control)):
            assert not strangers(act), (case.id, strangers(act))
            far = [words for words in FAR if words in text_of(act)]
            assert not far or "elsewhere(" in text_of(act), (case.id, far)
        assert case.launch.listens == (case.during is not None), case.id


def sample(family: Family, *ids: str) -> list[Case]:
    """The cases with these ids, each of which must be there: what a family tries where nothing holds it.

    Raises:
        KeyError: the family has no such case.
    """
    cases = {case.id: case for case in family.cases}
    return [cases[name] for name in ids]


def does_harm(case: Case, tmp_path: Path) -> None:
    """Without a sandbox the host sees the harm: the control of every verdict `held`."""
    with Arena(capsule=launcher(tmp_path), extends="workspace") as arena:
        result = arena.judge(case)
    assert result.verdict is Verdict.FAIL, result.why
