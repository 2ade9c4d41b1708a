"""The house: sizes, names, and a test file beside every source file."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest

from tests.architecture.sources import CAPSEM, PACKAGE, ROOT, Module, modules, relative, tracked

BANNED = {
    "core",
    "common",
    "utils",
    "util",
    "helpers",
    "helper",
    "shared",
    "base",
    "manager",
    "handler",
    "misc",
}
DISCUSS, STOP = 400, 600
CODE = [
    path
    for path in tracked()
    if path.suffix in {".py", ".rs", ".sh"} or relative(path).startswith("scripts/")
]
# Test directories that mirror a package; the others (architecture, stories, attacks, fuzz …) cut across.
MIRRORED = (
    "attack",
    "audit",
    "cli",
    "doctor",
    "egress",
    "overlay",
    "policy",
    "profile",
    "rules",
    "sandbox",
    "sdk",
    "sessions",
)


def test_sizes() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    too_long = {name: lines for name, lines in lengths.items() if lines > STOP}
    assert not too_long, f"split these: {too_long}"


@pytest.mark.filterwarnings("default")
def test_sizes_worth_a_discussion() -> None:
    long = [p for p in CODE if DISCUSS < len(p.read_text(encoding="utf-8").splitlines()) <= STOP]
    if long:
        warnings.warn(f"over {DISCUSS} lines: {', '.join(map(relative, long))}", stacklevel=1)
    assert len(long) <= len(CODE) // 10, (
        "more than a tenth of the files is over the line that asks for a discussion"
    )


def test_banned_names() -> None:
    wrong = {
        relative(path)
        for path in tracked()
        for part in path.relative_to(ROOT).parts
        if Path(part).stem in BANNED
    }
    assert not wrong, f"name what it is about: {sorted(wrong)}"


def _needs_a_test(path: Path, tree: ast.Module) -> bool:
    return path.name not in {"__init__.py", "__main__.py"} and any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree)
    )


def test_every_module_has_its_test_file() -> None:
    missing = []
    for module in modules():
        if not _needs_a_test(module.path, module.tree):
            continue
        inside = module.path.relative_to(module.package)
        expected = module.tests / inside.parent / f"test_{inside.name}"
        if not expected.exists():
            missing.append(relative(expected))
    assert not missing, f"missing: {missing}"


def test_every_mirrored_test_file_has_its_module() -> None:
    """`tests/policy/test_parser.py` and `test_parser_errors.py` both belong to `policy/parser.py`."""
    orphans = []
    for path in tracked():
        parts = path.relative_to(ROOT).parts
        if (
            len(parts) < 3
            or parts[0] != "tests"
            or parts[1] not in (*MIRRORED, "capsem")
            or not parts[-1].startswith("test_")
        ):
            continue
        stem = path.stem.removeprefix("test_")
        package = CAPSEM.joinpath(*parts[2:-1]) if parts[1] == "capsem" else PACKAGE.joinpath(*parts[1:-1])
        subjects = {module.stem for module in package.glob("*.py")}
        if parts[1] == "cli":  # the native verbs are tested here as their users meet them
            subjects |= {verb.stem for verb in (ROOT / "capsule/native/src/verbs").glob("*.rs")}
        if not any(stem == subject or stem.startswith(subject + "_") for subject in subjects):
            orphans.append(relative(path))
    assert not orphans, f"no module of that name: {orphans}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_module_says_what_it_is(module: Module) -> None:

    assert (ast.get_docstring(module.tree) or "").strip(), (
        "a module docstring: what it is, what it refuses, one example"
    )
