"""`make run`, without the build: the whole demonstration, judged by its own checks from the host."""

from __future__ import annotations

import subprocess

import pytest

from tests.capabilities import absent
from tests.conftest import REPOSITORY


@pytest.mark.serial
@pytest.mark.needs("userns", "landlock", "seccomp-notify", "git")
def test_the_demonstration_holds() -> None:
    if not (REPOSITORY / ".build/archives/h11.tar.gz").exists():
        if not (REPOSITORY / ".tools/bin/python").exists():
            pytest.skip("needs setup: the demonstration fetches its project with the tools of `make setup`")
        reason = absent("registry")
        if reason:
            pytest.skip(f"needs registry: {reason}")
    done = subprocess.run(
        [REPOSITORY / "scripts/demo/run"], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert sum(line.startswith("  holds ") for line in lines) >= 13
    assert not [line for line in lines if "BROKEN" in line]
    assert "pytest: 79 passed" in done.stdout
