"""Which tests the second pass has no need of: those to which it cannot make a difference who runs them.

As root, `make test` repeats the tests as an ordinary user. A test file is left out of that when nothing that it
reaches, itself and by the files of `tests/` that it takes something from, sees a user, a file system, a process or a
network: it imports pure modules only (`P` in ARCHITECTURE.md) and what merely computes, takes no fixture of a conftest,
and names no capability of the host. Of the tests of machines those that are named here are left out. Refuses to guess:
whatever is new or not understood runs in both passes.

Example: ``alike(ROOT / "tests/policy/test_quantities.py")`` is True. ``python -m tests.passes`` lists them.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from tests.architecture.sources import ROOT, imports_of, is_pure

# What a guest says or does once it runs, and how long it is waited for: the processes that hear it are the same, with
# the same powers over it, whoever owns them. How they are confined, killed, kept and found runs in both passes.
OF_GUESTS = {
    "tests/vm/test_agents.py": "programs of npm at work; their image is the largest",
    "tests/vm/test_boards.py": "the devices of the larger board",
    "tests/vm/test_hung.py": "how long a guest that stands still is waited for: minutes of waiting",
    "tests/vm/test_mcp_attacks.py": "messages without end and without form",
    "tests/vm/test_reports.py": "what a guest tells of its programs and files",
    "tests/vm/test_rest.py": "how often a guest at rest wakes its emulator, and what it reads first",
}
PACKAGES = {"capsule": ROOT / "capsule/src", "capsem": ROOT / "capsem/src"}
# What computes and no more. Another package of others' counts as one that may do anything.
COMPUTES = frozenset({
    "__future__", "ast", "base64", "blake3", "collections", "contextlib", "copy", "cryptography", "dataclasses",
    "datetime", "decimal", "enum", "fnmatch", "fractions", "functools", "gzip", "hashlib", "html", "hypothesis",
    "inspect", "ipaddress", "itertools", "json", "jsonschema", "math", "msgspec", "operator", "pathlib", "pickle",
    "pytest", "re", "ruamel", "string", "struct", "sys", "textwrap", "time", "tomllib", "traceback", "types", "typing",
    "zlib",
})  # fmt: skip
# Where this tree is, which is read alike by everybody.
READING = frozenset({"repository"})
# What a path or a mark leads to besides its text and its reading.
TELLING = frozenset({
    "chmod", "lchmod", "chown", "expanduser", "stat", "lstat", "mkfifo", "symlink_to", "needs", "usefixtures",
    "getfixturevalue",
})  # fmt: skip
# A path's, when they are called with nothing; others have attributes of these names.
ASKING = frozenset({"owner", "group"})


def alike(path: Path) -> bool:
    """Whether a test file does the same whoever runs it."""
    return path.is_relative_to(ROOT) and (str(path.relative_to(ROOT)) in OF_GUESTS or why(path) is None)


@functools.cache
def why(path: Path) -> str | None:
    """What in a test file, or in a file that it takes something from, may tell who runs it; None: nothing."""
    return told_by(path.read_text(encoding="utf-8"), path)


def told_by(text: str, path: Path) -> str | None:
    """The same of a text that stands, or would stand, in a file."""
    seen, ahead = {path}, [(path, ast.parse(text, str(path)))]
    while ahead:
        one, tree = ahead.pop()
        if found := _tells(one, tree):
            return f"{one.relative_to(ROOT)}: {found}"
        for name in _imports(one, tree):
            file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if name.startswith("tests.") and file not in seen and file.is_file():
                seen.add(file)
                ahead.append((file, _tree(file)))
    return None


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _tells(path: Path, tree: ast.Module) -> str | None:
    for name in sorted(_imports(path, tree)):
        if not _harmless(name):
            return f"imports {name}"
    fixtures = _fixtures(path.parent)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in TELLING:
            return f"line {node.lineno}: .{node.attr}"
        if isinstance(node, ast.Name) and node.id == "__import__":
            return f"line {node.lineno}: __import__"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ASKING
            and not node.args
        ):
            return f"line {node.lineno}: .{node.func.attr}()"
        if isinstance(node, ast.arg) and node.arg in fixtures:
            return f"line {node.lineno}: the fixture {node.arg}"
    return None


def _imports(path: Path, tree: ast.Module) -> frozenset[str]:
    return imports_of(tree, ".".join(path.parent.relative_to(ROOT).parts))


def _harmless(name: str) -> bool:
    top = name.partition(".")[0]
    if top in PACKAGES:
        module = _module(name)
        return module in PACKAGES or is_pure(module)
    if top == "tests":
        return True  # looked at by itself
    return top in COMPUTES or name == "urllib.parse" or name.startswith("urllib.parse.")


def _module(name: str) -> str:
    """The module that a name is, or is in: of `from capsule.policy.glob import match` the second is `match`."""
    place = PACKAGES[name.partition(".")[0]].joinpath(*name.split("."))
    there = place.is_dir() or place.with_suffix(".py").is_file()
    return name if there else name.rpartition(".")[0]


@functools.cache
def _fixtures(directory: Path) -> frozenset[str]:
    """What the conftests of a directory and of those above it offer to whoever names it."""
    found = set() if directory == ROOT / "tests" else set(_fixtures(directory.parent))
    conftest = directory / "conftest.py"
    if conftest.is_file():
        found |= {
            node.name
            for node in ast.walk(_tree(conftest))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and any("fixture" in ast.unparse(one) for one in node.decorator_list)
        }
    return frozenset(found - READING)


if __name__ == "__main__":
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        if alike(test):
            print(test.relative_to(ROOT))
