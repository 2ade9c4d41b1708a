"""The public names of `capsule`: these and no others, imported when first used, with types."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import capsule

NAMES = {
    "ArgumentError", "CallTimeoutError", "CapsuleError", "CommandFailed", "Denial", "NotCallableInsideError",
    "PolicyError", "ResultError", "RunResult", "Sandbox", "SandboxError", "ToolError", "ToolResult",
    "UnfitValueError", "WorkerError", "arun", "last_result", "run", "tool",
}  # fmt: skip


def test_these_are_the_public_names() -> None:
    assert set(capsule.__all__) == NAMES
    for name in NAMES:
        assert getattr(capsule, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = capsule.nothing


def test_importing_the_package_imports_nothing_else() -> None:
    shown = "import sys; before = set(sys.modules); import capsule; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if name.startswith("capsule")] == ["capsule"]


def test_decorated_functions_keep_their_types(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "typed.py").write_text(
        textwrap.dedent("""
        from typing import assert_type
        import capsule

        @capsule.tool
        def add(a: int, b: int = 2) -> int: return a + b

        @capsule.tool(timeout=1.0, policy="readonly")
        def name(a: str) -> str: return a

        @capsule.tool
        async def later(a: str) -> bytes: return a.encode()

        @capsule.tool(name="x")
        async def later_still(a: str) -> bytes: return a.encode()

        assert_type(add(1), int)
        assert_type(add.call(1, b=3).value, int)
        assert_type(name("x"), str)

        async def use() -> None:
            assert_type(await later("x"), bytes)
            assert_type((await later_still.call("x")).value, bytes)
            with capsule.Sandbox() as box:
                assert_type(box.call(max, [1, 2]).value, int)
            assert_type((await capsule.arun(["ls"])).code, int)

        add("x")        # wrong
        add(1, c=2)     # wrong
        name()          # wrong
        add.call(b"")   # wrong
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "typed.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"MYPYPATH": str(repository / "capsule/src"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    lines = (tmp_path / "typed.py").read_text().splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    assert sorted({int(error.split(":")[1]) for error in errors}) == wrong, done.stdout
