"""Start-up is a feature: what importing the package or asking for help loads, and what it does not."""

from __future__ import annotations

import subprocess
import sys


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
