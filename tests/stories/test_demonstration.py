"""`make run`, without the build: the whole demonstration, judged by its own checks from the host."""

from __future__ import annotations

import os
import pwd
import subprocess

import pytest

from tests.capabilities import absent
from tests.conftest import REPOSITORY


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.needs("userns", "landlock", "seccomp-notify", "git")
def test_the_demonstration_holds() -> None:
    if not (REPOSITORY / ".build/archives/h11.tar.gz").exists():
        if not (REPOSITORY / ".tools/bin/python").exists():
            pytest.skip("needs setup: the demonstration fetches its project with the tools of `make setup`")
        reason = absent("registry")
        if reason:
            pytest.skip(f"needs registry: {reason}")
    # Tests have a HOME of their own; packages and kernels are not fetched again for it.
    cache = os.environ.get("CAPSEM_CACHE") or f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache/capsem"
    done = subprocess.run(
        [REPOSITORY / "scripts/demo/run"],
        capture_output=True,
        text=True,
        check=False,
        timeout=1400,
        env={**os.environ, "CAPSEM_CACHE": cache},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    lines = done.stdout.splitlines()
    held = [line.removeprefix("  holds ").strip() for line in lines if line.startswith("  holds ")]
    assert len(held) >= 13
    assert not [line for line in lines if "BROKEN" in line]
    assert "pytest: 79 passed" in done.stdout
    in_machine = {
        "the secret in .env reached no server, the model's neither",
        "every process in the machine had a placeholder, and none the key",
        "no hook was planted on the host",
        "the machine is gone, and no QEMU of it is left",
    }
    if all(absent(what) is None for what in ("capsem", "egress", "images", "qemu")):
        assert in_machine <= set(held), done.stdout[-4000:]
    else:
        assert "The chapter of the machine is left out: " in done.stdout
