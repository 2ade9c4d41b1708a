"""`capsule run --overlay`: the host sees nothing until the changes are taken over."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("userns")


def capsule(binary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def tree(root: Path) -> dict[str, str]:
    """Every name and its content, but for the log."""
    found = {}
    for path in sorted(root.rglob("*")):
        if not path.name.startswith("capsule.log"):
            found[str(path.relative_to(root))] = (
                os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "/"
            )
    return found


SCRIPT = """
set -e
echo two > a
echo new > b
rm -r gone
ln -s /etc/passwd link
mkdir e
echo z > e/z
mv kept moved
cat a
"""


@pytest.fixture
def project(workspace: Path, home: Path) -> Path:
    (workspace / "a").write_text("one\n")
    (workspace / "kept").write_text("kept\n")
    (workspace / "gone").mkdir()
    (workspace / "gone" / "x").write_text("x\n")
    (workspace / ".git" / "hooks").mkdir(parents=True)
    return workspace


def test_writes_are_seen_inside_and_not_outside(project: Path, capsule_binary: Path) -> None:
    before = tree(project)
    answer = capsule(capsule_binary, "run", "--overlay", "--", "/bin/sh", "-c", SCRIPT)
    assert (answer.returncode, answer.stdout) == (0, "two\n"), answer.stderr
    assert "capsule diff r-" in answer.stderr
    assert tree(project) == before
    # The positive control: the same without an overlay does change the host.
    answer = capsule(capsule_binary, "run", "--", "/bin/sh", "-c", SCRIPT)
    assert answer.returncode == 0, answer.stderr
    assert tree(project) != before


def test_what_was_written_is_shown_and_taken_over(project: Path, capsule_binary: Path) -> None:
    assert capsule(capsule_binary, "run", "--overlay", "--", "/bin/sh", "-c", SCRIPT).returncode == 0
    answer = capsule(capsule_binary, "diff", "--json")
    assert answer.returncode == 1, answer.stderr
    actions = {change["path"]: change["action"] for change in map(json.loads, answer.stdout.splitlines())}
    assert actions == {
        "a": "changed", "b": "added", "gone": "removed", "link": "added", "e": "added", "e/z": "added",
        "kept": "removed", "moved": "added",
    }  # fmt: skip
    answer = capsule(capsule_binary, "apply", "--yes")
    assert answer.returncode == 125, "a link that points outside is not taken over unasked"
    assert "links that point outside: 1" in answer.stderr
    assert not (project / "b").exists(), "nor is anything else"
    answer = capsule(capsule_binary, "apply", "--yes", "--links")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert tree(project) == {
        "a": "two\n", "b": "new\n", "link": "/etc/passwd", "e": "/", "e/z": "z\n", "moved": "kept\n",
        ".git": "/", ".git/hooks": "/",
    }  # fmt: skip
    assert capsule(capsule_binary, "diff", "--list").stdout == ""


def test_protected_names_stay_protected(project: Path, capsule_binary: Path) -> None:
    script = "echo x > .git/hooks/pre-commit; mv .git old; echo x > capsule.yaml; ls -A .git"
    answer = capsule(capsule_binary, "run", "--overlay", "--", "/bin/sh", "-c", script)
    assert answer.stdout == "hooks\n"
    answer = capsule(capsule_binary, "diff", "--stat")
    assert answer.stdout.endswith("nothing changed\n")


def test_the_host_wins_until_forced(project: Path, capsule_binary: Path) -> None:
    assert capsule(capsule_binary, "run", "--overlay", "--", "/bin/sh", "-c", "echo two > a").returncode == 0
    (project / "a").write_text("host\n")
    answer = capsule(capsule_binary, "apply", "--yes")
    assert answer.returncode == 125
    assert (project / "a").read_text() == "host\n"
    assert capsule(capsule_binary, "apply", "--yes", "--force").returncode == 0
    assert (project / "a").read_text() == "two\n"


def test_what_the_host_did_meanwhile_is_a_conflict(project: Path, capsule_binary: Path) -> None:
    (project / "other").mkdir()
    (project / "other" / "x").write_text("other\n")
    # A rename over a name and a new name leave nothing of what was there before in the layer.
    script = "echo two > t; mv t a; echo y > gone/x; echo new > fresh; rm kept"
    assert capsule(capsule_binary, "run", "--overlay", "--", "/bin/sh", "-c", script).returncode == 0
    (project / "a").unlink()
    (project / "gone").rename(project / "away")
    (project / "other").rename(project / "gone")
    (project / "fresh").write_text("host\n")
    (project / "kept").write_text("host\n")
    before = tree(project)
    answer = capsule(capsule_binary, "diff", "--json")
    conflicts = {change["path"]: change["conflict"] for change in map(json.loads, answer.stdout.splitlines())}
    happened = {"a": "was removed", "gone/x": "was replaced", "fresh": "appeared", "kept": "changed"}
    assert conflicts == {
        name: f"it {what} on the host since the run began" for name, what in happened.items()
    }
    answer = capsule(capsule_binary, "apply", "--yes")
    assert answer.returncode == 125
    assert tree(project) == before


@pytest.mark.needs("root")
def test_what_belongs_to_others_can_be_written_as_without_a_layer(
    project: Path, capsule_binary: Path
) -> None:
    (project / "theirs").mkdir()
    for name in ("w", "r", "theirs/w"):
        (project / name).write_text("one\n")
        (project / name).chmod(0o644 if name == "r" else 0o666)
        os.chown(project / name, 1234, 4321)
    os.chown(project / "theirs", 1234, 4321)
    (project / "theirs").chmod(0o777)
    script = "echo two >> w; echo new > theirs/n; echo two >> theirs/w; ! echo x >> r; mv r moved; cat w"
    assert capsule(
        capsule_binary, "run", "--", "/bin/sh", "-c", script.replace("mv r moved; ", "")
    ).stdout == ("one\ntwo\n")
    answer = capsule(capsule_binary, "run", "--overlay", "--", "/bin/sh", "-c", script)
    assert (answer.returncode, answer.stdout) == (0, "one\ntwo\ntwo\n"), answer.stderr
    answer = capsule(capsule_binary, "diff", "--json")
    actions = {change["path"]: change["action"] for change in map(json.loads, answer.stdout.splitlines())}
    assert actions == {"moved": "added", "r": "removed", "theirs/w": "changed", "w": "changed"}


MOUNTED = """
mkdir m
mount -t tmpfs none m
"$1" run -- /bin/true && "$1" run --overlay -- /bin/true
"""


def test_a_mount_in_the_workspace_is_refused_by_name(project: Path, capsule_binary: Path) -> None:
    answer = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh", capsule_binary],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 125, answer.stderr
    assert f"{project}/m is a mount inside {project}" in answer.stderr


def test_an_opaque_directory_is_understood(project: Path, capsule_binary: Path) -> None:
    script = "rm -r gone; mkdir gone; echo y > gone/y"
    assert capsule(capsule_binary, "run", "--overlay", "--", "/bin/sh", "-c", script).returncode == 0
    answer = capsule(capsule_binary, "diff", "--stat")
    assert "1 added, 1 removed" in answer.stdout, answer.stdout
    assert capsule(capsule_binary, "apply", "--yes").returncode == 0
    assert [path.name for path in (project / "gone").iterdir()] == ["y"]


def test_what_a_run_leaves_is_refused_where_it_is_dangerous(project: Path, capsule_binary: Path) -> None:
    # The mode that would lend our identity is refused at once; what stays is applied without it.
    script = "mkfifo fifo; echo x > s; chmod 755 s; ! chmod 6755 s"
    assert capsule(capsule_binary, "run", "--overlay", "--", "/bin/sh", "-c", script).returncode == 0
    answer = capsule(capsule_binary, "apply", "--yes")
    assert answer.returncode == 125
    assert "REFUSED: it is a FIFO" in answer.stdout
    assert capsule(capsule_binary, "apply", "--yes", "--skip-refused").returncode == 0
    assert (project / "s").stat().st_mode & 0o7777 == 0o755
    assert not (project / "fifo").exists()


def test_a_single_writable_file_is_refused(project: Path, capsule_binary: Path) -> None:
    (project / "p.yaml").write_text("version: 1\nextends: [strict]\nfilesystem:\n  write: [./a]\n")
    answer = capsule(capsule_binary, "run", "--policy", "./p.yaml", "--overlay", "--", "/bin/true")
    assert answer.returncode == 125
    assert "single file" in answer.stderr


def test_the_layers_are_private(project: Path, capsule_binary: Path) -> None:
    assert capsule(capsule_binary, "run", "--overlay", "--", "/bin/true").returncode == 0
    overlays = Path(os.environ["XDG_STATE_HOME"]) / "capsule" / "overlays"
    (run,) = overlays.iterdir()
    for directory in (overlays, run):
        assert directory.stat().st_mode & 0o077 == 0
    assert (run / "manifest.json").stat().st_mode & 0o077 == 0
