"""The public names of the package: what is imported by users is pinned, lazy, and importable."""

from __future__ import annotations

import subprocess
import sys

import capsule

PUBLIC = {
    "CallTimeoutError", "CapsuleError", "CommandFailed", "Denial", "NotCallableInsideError", "PolicyError",
    "ResultError", "RunResult", "Sandbox", "SandboxError", "ToolError", "ToolResult", "UnfitValueError",
    "WorkerError", "arun", "last_result", "run", "tool",
}  # fmt: skip


def test_the_public_names() -> None:
    assert set(capsule.__all__) == PUBLIC, "a name comes or goes with a fragment in changes/ and a row here"


def test_every_public_name_is_there() -> None:
    for name in PUBLIC:
        assert getattr(capsule, name).__doc__ or callable(getattr(capsule, name)), name


def loaded_after(statement: str, *names: str) -> set[str]:
    """Which of the modules a fresh interpreter has loaded after the statement."""
    code = f"import sys; {statement}; print(*set({list(names)!r}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("click", "rich", "ruamel.yaml", "msgspec", "asyncio")
    assert loaded_after("import capsule", *heavy) == set()
    assert loaded_after("import asyncio", *heavy) == {"asyncio"}, "the positive control"


def test_the_command_line_imports_no_verb_before_it_is_asked_for() -> None:
    late = ("rich", "ruamel.yaml", "cryptography", "capsule.sdk", "capsule.profile", "capsule.attack")
    assert loaded_after("import capsule.cli.main", *late) == set()
