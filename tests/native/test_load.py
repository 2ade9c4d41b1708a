"""Finding a policy and its plan: the cache, what invalidates it, and which files are not believed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.native.running import Capsule

pytestmark = pytest.mark.needs("userns")


class Runner:
    """`capsule run --json` with an interpreter that leaves a mark each time it is asked."""

    def __init__(self, binary: Path, base: Path) -> None:
        self.binary = binary
        self.mark = base / "asked"
        self.python = base / "python"
        self.python.write_text(f'#!/bin/sh\necho x >> {self.mark}\nexec {binary.with_name("python")} "$@"\n')
        self.python.chmod(0o755)

    def run(self, *options: str, **variables: str) -> dict[str, Any]:
        """The report."""
        answer = subprocess.run(
            [self.binary, "run", "--json", *options, "--", "/bin/true"],
            env={**os.environ, "CAPSULE_PYTHON": str(self.python), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        report: dict[str, Any] = json.loads(answer.stderr.splitlines()[-1])
        return report

    def asked(self) -> int:
        """How often Python was asked."""
        return len(self.mark.read_text().splitlines()) if self.mark.exists() else 0


@pytest.fixture
def runner(workspace: Path, home: Path, capsule_binary: Path, tmp_path: Path) -> Runner:
    return Runner(capsule_binary, tmp_path)


def policy(path: Path, name: str = "mine") -> Path:
    path.write_text(f"version: 1\nname: {name}\nextends: [workspace]\n")
    path.chmod(0o644)
    return path


def test_a_preset_needs_no_interpreter(runner: Runner) -> None:
    for options in ((), ("--policy", "git")):
        report = runner.run(*options)
        assert report["exit"]["cause"] == "exited", report
    assert runner.asked() == 0
    assert runner.run("--policy", "git")["policy"]["name"] == "git"


def test_a_policy_with_thousands_of_lines_is_used(runner: Runner, workspace: Path) -> None:
    """Memory that grows where it lies may become larger than what the allocator takes back."""
    path = policy(workspace / "large.yaml")
    lines = "".join(f"    - ./some/long/path/of/a/file/{number:05}\n" for number in range(3500))
    path.write_text(path.read_text() + f"filesystem:\n  deny:\n{lines}")
    for _ in range(2):
        assert runner.run("--policy", str(path))["exit"]["cause"] == "exited"
    assert runner.asked() == 1


def test_a_policy_is_compiled_once_and_again_when_it_changes(runner: Runner, workspace: Path) -> None:
    file = policy(workspace / "capsule.yaml")
    assert [runner.run()["policy"]["name"] for _ in range(3)] == ["mine"] * 3
    # For the plan, and whether it needs to be accepted.
    assert runner.asked() == 2
    policy(file, "other")
    assert runner.run()["policy"]["name"] == "other"
    assert runner.asked() == 4
    assert runner.run("--policy", "./capsule.yaml")["policy"]["name"] == "other"
    assert runner.asked() == 4


def test_a_file_that_is_extended_counts_too(runner: Runner, workspace: Path) -> None:
    team = policy(workspace / "team.yaml", "team")
    (workspace / "capsule.yaml").write_text("version: 1\nname: top\nextends: [./team.yaml]\n")
    assert runner.run()["exit"]["cause"] == "exited"
    assert runner.run()["exit"]["cause"] == "exited"
    assert runner.asked() == 2
    team.write_text(team.read_text() + "audit: all\n")
    runner.run()
    assert runner.asked() == 4
    team.chmod(0o666)
    report = runner.run()
    assert report["exit"]["code"] == 125
    assert "written by everybody" in report["exit"]["reason"]


def test_what_was_only_found_grants_no_more_than_the_default_until_it_is_accepted(
    runner: Runner, workspace: Path, home: Path
) -> None:
    (home / ".ssh").mkdir(exist_ok=True)
    file = policy(workspace / "capsule.yaml")
    file.write_text(file.read_text() + "filesystem:\n  read: [~/.ssh]\n")
    refused = runner.run()
    assert (refused["exit"]["code"], refused["log"]) == (125, None)
    reason = refused["exit"]["reason"]
    assert "was found, not named" in reason
    assert "critical  may read ~/.ssh   (capsule.yaml:5)" in reason
    assert "capsule policy accept" in reason
    # Naming it is a word of one's own; so is accepting it, as it is now.
    assert runner.run("--policy", "capsule.yaml")["exit"]["cause"] == "exited"
    assert runner.run()["exit"]["code"] == 125
    accepted = subprocess.run(
        [runner.binary, "policy", "accept"], capture_output=True, text=True, check=False
    )
    assert accepted.returncode == 0, accepted.stderr
    assert runner.run()["exit"]["cause"] == "exited"
    assert runner.run("--env", "HOME=/elsewhere")["exit"]["cause"] == "exited"
    file.write_text(file.read_text() + "audit: all\n")
    assert runner.run()["exit"]["code"] == 125


def test_the_command_cannot_accept_a_policy_for_the_next_run(
    runner: Runner, workspace: Path, capsule_binary: Path
) -> None:
    state = Path(os.environ["XDG_STATE_HOME"]) / "capsule" / "accepted"

    def accepted() -> list[Path]:
        return sorted(state.iterdir()) if state.exists() else []

    policy(workspace / "capsule.yaml")
    runner.run()
    before = accepted()
    assert len(before) == 1
    plant = f"mkdir -p {state}; echo > {state}/planted; echo >> capsule.yaml"
    subprocess.run([capsule_binary, "run", "--", "sh", "-c", plant], capture_output=True, check=False)
    assert accepted() == before
    assert (workspace / "capsule.yaml").read_text().endswith("[workspace]\n")
    # The control: outside, the same words write.
    subprocess.run(["sh", "-c", plant], check=True)
    assert len(accepted()) == 2


def test_the_search_goes_upward_to_the_repository(
    runner: Runner, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(workspace / "capsule.yaml")
    inner = workspace / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert runner.run()["policy"]["name"] == "mine"
    (workspace / "a" / ".git").mkdir()
    assert runner.run()["policy"]["name"] == "workspace"


def test_mistakes_are_told_and_nothing_runs(runner: Runner, workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nfilesytem: {}\n")
    report = runner.run()
    assert (report["exit"]["code"], report["exit"]["cause"]) == (125, "refused")
    assert "filesystem" in report["exit"]["reason"]


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_a_policy_that_everybody_may_write_is_refused(runner: Runner, workspace: Path, mode: int) -> None:
    policy(workspace / "capsule.yaml").chmod(mode)
    report = runner.run()
    assert report["exit"]["code"] == 125
    assert "written by everybody" in report["exit"]["reason"]
    assert runner.asked() == 0


def test_a_policy_of_somebody_else_is_refused(runner: Runner, workspace: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: to make somebody else's file")
    os.chown(policy(workspace / "capsule.yaml"), 4321, 4321)
    report = runner.run()
    assert report["exit"]["code"] == 125
    assert "user 4321" in report["exit"]["reason"]


def test_a_poisoned_cache_is_not_believed(runner: Runner, workspace: Path) -> None:
    file = policy(workspace / "capsule.yaml")
    runner.run()
    plans = Path(os.environ["XDG_CACHE_HOME"]) / "capsule" / "plans"
    (kept,) = plans.iterdir()
    assert plans.stat().st_mode & 0o777 == 0o700
    good = kept.read_bytes()
    for poison in (b"", good[:-1], b"{}", good.replace(b'"name":"mine"', b'"nome":"mine"')):
        kept.write_bytes(poison)
        assert runner.run()["policy"]["name"] == "mine"
        assert kept.read_bytes() == good
    asked = runner.asked()
    # Another policy's plan under this one's key, as it stands and under a link.
    other = policy(workspace / "other.yaml", "other")
    runner.run("--policy", str(other))
    (stranger,) = [path for path in plans.iterdir() if path != kept]
    shutil.copy(stranger, kept)
    assert runner.run()["policy"]["name"] == "mine"
    kept.unlink()
    kept.symlink_to(stranger)
    assert runner.run()["policy"]["name"] == "mine"
    plans.chmod(0o777)
    assert runner.run()["policy"]["name"] == "mine"
    assert runner.asked() == asked + 4
    assert file.exists()


def test_what_a_later_run_would_obey_cannot_be_planted(
    runner: Runner, workspace: Path, capsule_binary: Path
) -> None:
    (workspace / "sub").mkdir()
    script = "echo version: 1 > sub/capsule.yaml; echo x > sub/c && mv sub/c sub/capsule.yaml; echo x > sub/control"
    subprocess.run([capsule_binary, "run", "--", "/bin/sh", "-c", script], capture_output=True, check=False)
    assert sorted(path.name for path in (workspace / "sub").iterdir()) == ["c", "control"]


def test_a_name_that_is_neither_a_file_nor_a_preset(runner: Runner) -> None:
    for text in ("no such", "", "./none.yaml"):
        report = runner.run("--policy", text)
        assert report["exit"]["code"] == 125, text


def test_a_linked_policy_is_about_the_place_of_the_link(
    workspace: Path, home: Path, capsule_binary: Path
) -> None:
    kept = home / "settings"
    (kept / "deep").mkdir(parents=True)
    for folder, name in ((kept, "one"), (kept / "deep", "two")):
        (folder / "mine.yaml").write_text("version: 1\nextends: [workspace, ./base.yaml]\n")
        (folder / "base.yaml").write_text(f"version: 1\nenv: {{set: {{WHICH: {name}}}}}\n")
    link = workspace / "capsule.yaml"
    link.symlink_to(kept / "mine.yaml")
    (workspace / "here").write_text("here")
    script = (
        f"echo $WHICH; cat here; echo > made; echo >> {kept}/planted; echo 'version: 1' > {link}; rm {link}; "
        f"mv {link} {workspace}/moved; ln -sf {kept}/deep/mine.yaml {link}; true"
    )
    done = Capsule(capsule_binary, workspace).run("sh", "-c", script)
    assert done.exit["cause"] == "exited", done
    assert done.out.splitlines() == ["one", "here"], done
    assert (workspace / "made").exists()
    # Neither where it is kept, nor the name, nor what it leads to could be changed.
    assert not (kept / "planted").exists()
    assert link.readlink() == kept / "mine.yaml"
    assert (kept / "mine.yaml").read_text() == "version: 1\nextends: [workspace, ./base.yaml]\n"
    # The same words, leading elsewhere, are another policy: what they extend is another file.
    link.unlink()
    link.symlink_to(kept / "deep/mine.yaml")
    assert Capsule(capsule_binary, workspace).run("sh", "-c", "echo $WHICH").out == "two\n"


def test_an_acceptance_holds_for_no_other_link_to_the_file(
    workspace: Path, home: Path, capsule_binary: Path, tmp_path: Path
) -> None:
    (home / "data").mkdir()
    (home / "data/letter").write_text("dear")
    (home / "mine.yaml").write_text("version: 1\nextends: [workspace]\nfilesystem: {read: [~/data]}\n")
    places = [workspace, tmp_path / "stranger"]
    places[1].mkdir()
    for place in places:
        (place / "capsule.yaml").symlink_to(home / "mine.yaml")
    accepted = subprocess.run(
        [capsule_binary, "policy", "accept"], cwd=workspace, capture_output=True, text=True, check=False
    )
    assert accepted.returncode == 0, accepted.stderr
    words = ("cat", str(home / "data/letter"))
    control, stranger = (Capsule(capsule_binary, place).run(*words) for place in places)
    assert control.out == "dear", control
    assert (stranger.out, stranger.code) == ("", 125), stranger
    assert "accept" in stranger.exit["reason"]
