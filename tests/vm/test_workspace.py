"""A workspace in a real machine: what goes in, what comes back, and a guest whose tar lies; judged on the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm.marks import machines
from tests.vm.test_machines import Home, home  # noqa: F401 - a fixture

pytestmark = machines(900)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "outer/project"
    (root / "src").mkdir(parents=True)
    (root / "src/a.py").write_text("x = 1\n")
    (root / "old").mkdir()
    (root / "old/gone").write_text("gone\n")
    (root / ".env").write_text("SECRET=1\n")
    (root / "big").write_bytes(os.urandom(2 << 20))
    (root / "link").symlink_to("src/a.py")
    return root


def seen(root: Path) -> dict[str, bytes | str]:
    """Everything below a directory and beside it."""
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink()
        else path.read_bytes() if path.is_file() else "/"
        for path in root.rglob("*")
    }  # fmt: skip


def liar(script: str) -> str:
    """Makes the guest's tar say what `script` writes, when it is asked to pack."""
    lines = f'#!/bin/sh\ncase "$1" in --create) {script};; *) exec /usr/bin/tar.real "$@";; esac\n'
    return (
        "test -e /usr/bin/tar.real || cp /usr/bin/tar /usr/bin/tar.real; cat > /tmp/t <<'END'\n"
        f"{lines}END\nchmod 755 /tmp/t; mv /tmp/t /usr/bin/tar"
    )


T = "/usr/bin/tar.real"
LIES = {
    "an absolute name": f"{T} -P -cf - /etc/passwd",
    "a name that goes up": f"cd /workspace/src; {T} -P -cf - ../../etc/passwd",
    "a hard link": f"cd /tmp; touch h; ln -f h i; {T} -cf - ./h ./i",
    "a name twice": f"cd /workspace; {T} -cf - ./link ./link",
    "no directory before": f"cd /workspace; {T} -cf - ./src/a.py",
    "a sparse file": f"cd /tmp; truncate -s 9G s; {T} -cSf - ./s",
    "more than the limit": f"cd /tmp; truncate -s 9G s; {T} -cf - ./s",
    "zeros without end": "cat /dev/zero",
    "noise without end": "cat /dev/urandom",
    "nothing": "exit 0",
    "half of it": f"cd /workspace; {T} -cf - . | head -c 5000",
    "a failure after all of it": f"cd /workspace; {T} -cf - .; exit 2",
}


def test_a_workspace_and_a_guest_that_lies(home: Home, project: Path) -> None:  # noqa: F811 - the fixture
    box = "--image", "minimal", "-n", "work", "--workspace", str(project)
    said = home.complaints("create", *box)
    assert "left out: '.env': denied by preset:secret-files" in said
    try:
        _honest(home, project)
        before = seen(project.parent)
        for name, lie in LIES.items():
            home.capsem("exec", "work", "--", "sh", "-c", liar(lie))
            for verb in ("diff", "apply"):
                done = subprocess.run(
                    [sys.executable, "-m", "capsem.cli", verb, "work"],
                    capture_output=True,
                    text=True,
                    env=home.env,
                    timeout=120,
                    check=False,
                )
                assert done.returncode in {1, 125}, (name, done)
                assert "Traceback" not in done.stderr, (name, done.stderr)
                assert done.stdout == "", (name, done.stdout)
            assert seen(project.parent) == before, name
        # The control: with its own tar the same machine is read and taken over again.
        home.capsem(
            "exec", "work", "--", "sh", "-c", "mv /usr/bin/tar.real /usr/bin/tar; echo c > /workspace/control"
        )
        home.capsem("apply", "work")
        assert (project / "control").read_text() == "c\n"
    finally:
        home.capsem("delete", "--force", "work")


def _honest(home: Home, project: Path) -> None:  # noqa: F811
    look = "pwd; stat -c '%u %F' /workspace src/a.py link; test -e .env || wc -c < big"
    assert home.text("exec", "work", "--", "sh", "-c", look).splitlines() == [
        "/workspace", "0 directory", "0 regular file", "0 symbolic link", str(2 << 20),
    ]  # fmt: skip
    assert home.text("diff", "work") == ""
    home.capsem("snapshot", "create", "work", "start")
    change = (
        "echo y = 2 >> src/a.py; chmod +x src/a.py; rm -r old; ln -s /etc/passwd out; mkdir -p .git/hooks new; "
        "echo evil > .git/hooks/post-commit; echo n > new/x; mkfifo fifo; mknod dev c 1 3; echo M > .env; "
        "cp /bin/true s; chmod 4755 s"
    )
    home.capsem("exec", "work", "--", "sh", "-c", change)
    patch = home.capsem("diff", "work", "src", "old", code=1)
    copy = project.parent / "copy"
    subprocess.run(["cp", "-a", project, copy], check=True)
    subprocess.run(["git", "apply", "-"], cwd=copy, input=patch, check=True)
    told = json.loads(home.capsem("apply", "work", "--dry-run", "--json", code=1))
    assert set(told["refused"]) == {
        ".env",
        ".git",
        ".git/hooks",
        ".git/hooks/post-commit",
        "out",
        "fifo",
        "dev",
    }
    assert (project / "src/a.py").read_text() == "x = 1\n"
    home.capsem("apply", "work", code=1)
    assert (project / "src/a.py").read_text() == "x = 1\n", "all or nothing"
    home.capsem("apply", "work", "--skip", code=1)
    assert (project / "src/a.py").read_text() == (copy / "src/a.py").read_text() == "x = 1\ny = 2\n"
    assert os.access(project / "src/a.py", os.X_OK)
    assert not (project / "old").exists()
    assert not (project / ".git").exists()
    assert (project / ".env").read_text() == "SECRET=1\n"
    assert not os.path.lexists(project / "out")
    assert (project / "s").stat().st_mode & 0o7777 == 0o755, "no set-user-id bit comes through"
    home.capsem("snapshot", "revert", "work", "start")
    assert home.text("exec", "work", "--", "cat", "src/a.py") == "x = 1"
    assert home.text("exec", "work", "--", "ls", "-A") == "big\nlink\nold\nsrc"
    home.capsem("cp", "-r", "work:/workspace", str(project.parent / "out"))
    assert (project.parent / "out/big").read_bytes() == (project / "big").read_bytes()


def test_a_command_works_on_a_directory_and_its_work_stays(home: Home, project: Path) -> None:  # noqa: F811
    run = "run", "--image", "minimal", "--workspace", str(project)
    home.capsem(*run, "--apply", "--", "sh", "-c", "echo two > src/a.py; exit 3", code=3)
    assert (project / "src/a.py").read_text() == "two\n"
    home.capsem(*run, "--", "sh", "-c", "echo lost > src/a.py")
    assert (project / "src/a.py").read_text() == "two\n"
    assert home.machines() == []
