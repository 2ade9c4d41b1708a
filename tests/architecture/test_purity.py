"""Pure modules see no socket, file, clock, thread, process, randomness or log: those come in as arguments."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.sources import Module, modules

FORBIDDEN = frozenset({
    "asyncio", "concurrent", "ctypes", "fcntl", "glob", "http", "importlib", "io", "locale", "logging",
    "mmap", "multiprocessing", "os", "pty", "random", "requests", "resource", "secrets", "select",
    "selectors", "shelve",
    "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "termios",
    "threading", "time", "urllib", "uuid", "warnings",
})  # fmt: skip
# Text to text; all else of its package talks to the network.
TEXT_ONLY = "urllib.parse"
FORBIDDEN_NAMES = {"pathlib.Path", "pathlib.PosixPath", "datetime.datetime.now", "getpass.getuser"}
FORBIDDEN_CALLS = {"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"}
# A clock or the file system reached through an object that is itself harmless.
FORBIDDEN_METHODS = {
    "now",
    "utcnow",
    "today",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "unlink",
}

PURE = [module for module in modules() if module.pure]


def _violations(module: Module) -> list[str]:
    found = [
        f"imports {name}"
        for name in sorted(module.imports)
        if (name.split(".")[0] in FORBIDDEN and name != TEXT_ONLY and not name.startswith(f"{TEXT_ONLY}."))
        or name in FORBIDDEN_NAMES
        or name == "pathlib"
    ]
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in FORBIDDEN_CALLS:
            found.append(f"line {node.lineno}: calls {function.id}()")
        if isinstance(function, ast.Attribute) and function.attr in FORBIDDEN_METHODS:
            found.append(f"line {node.lineno}: calls .{function.attr}()")
    return found


@pytest.mark.parametrize("module", PURE, ids=lambda module: module.name)
def test_pure_module(module: Module) -> None:
    # `from pathlib import PurePosixPath` names pathlib too: only the bare module is refused.
    wrong = [
        row for row in _violations(module) if row != "imports pathlib" or not _takes_only_pure_paths(module)
    ]
    assert not wrong, f"{module.path}:\n" + "\n".join(wrong)


def _takes_only_pure_paths(module: Module) -> bool:
    taken = {name.removeprefix("pathlib.") for name in module.imports if name.startswith("pathlib.")}
    return bool(taken) and taken <= {"PurePath", "PurePosixPath"}


@pytest.mark.parametrize("module", PURE, ids=lambda module: module.name)
def test_pure_module_imports_only_pure_modules(module: Module) -> None:
    impure = {other.name for other in modules() if not other.pure and other.name not in {"capsule", "capsem"}}
    assert not module.imports & impure


def test_the_check_sees_what_it_forbids() -> None:
    """The positive control: an impure module is found by every rule."""
    source = "import os\nfrom pathlib import Path\nimport datetime\nopen('x')\ndatetime.datetime.now()\n"
    names = frozenset({"os", "pathlib", "pathlib.Path", "datetime"})
    found = _violations(
        Module("capsule.policy.x", PURE[0].path if PURE else modules()[0].path, ast.parse(source), names)
    )
    assert len(found) == 5, found
