"""Names with signs of globs in them (`app/[id]/page.tsx`): granted, denied, and suggested by what a person can paste.

Beside each is a name that the same text would mean as a glob: it must not be touched by the line.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]

OTHERS = ("i", "d", "aXb", "axxb")
NAMES = ("[id]", "[*]", "[[...slug]]", "a*b", "a?b", "x]y")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def made(top: Path, name: str) -> None:
    """A directory of such a name, and others that a glob of its text would mean."""
    for one in (name, *OTHERS):
        (top / one).mkdir(parents=True)
        (top / one / "page").write_text(f"content of {one}\n")


def policy(workspace: Path, lines: str, preset: str = "workspace") -> list[str]:
    (workspace / "p.yaml").write_text(f"version: 1\nextends: [{preset}]\n{lines}\n")
    return ["--policy", str(workspace / "p.yaml")]


def test_what_a_denial_suggests_is_what_it_needs(
    capsule_binary: Path, workspace: Path, home: Path, name: str
) -> None:
    made(workspace / "data", name)
    (workspace / "src").mkdir()
    capsule = Capsule(capsule_binary, workspace / "src")
    page = str(workspace / "data" / name / "page")
    refused = capsule.run("cat", page, options=policy(workspace, "filesystem: {read: [./src]}", "strict"))
    assert refused.code == 1
    [denial] = [row for row in refused.report["denials"] if row["target"] == page]
    _, _, entries = denial["allow"].split(": ", 2)
    options = policy(workspace, f"filesystem: {{read: [./src, {entries[1:-1]}]}}", "strict")
    allowed = capsule.run("cat", page, options=options)
    assert (allowed.code, allowed.out) == (0, f"content of {name}\n"), allowed.err
    kept = capsule.run("cat", *(str(workspace / "data" / one / "page") for one in OTHERS), options=options)
    assert (kept.code, kept.out) == (1, "")


def test_in_a_workspace_it_is_denied_by_the_same_text(
    capsule_binary: Path, workspace: Path, home: Path, name: str
) -> None:
    made(workspace / "app", name)
    text = "app/" + "".join(f"[{sign}]" if sign in "*?[]" else sign for sign in name)
    options = policy(workspace, f"filesystem: {{deny: [{json.dumps(text)}]}}")
    capsule = Capsule(capsule_binary, workspace)
    ran = capsule.run("cat", f"app/{name}/page", options=options)
    assert (ran.code, ran.out) == (1, ""), ran.out
    control = capsule.run("cat", *(f"app/{one}/page" for one in OTHERS), options=options)
    assert control.code == 0, control.err


def test_a_profiled_policy_is_accepted_and_enough(
    capsule_binary: Path, workspace: Path, home: Path, name: str
) -> None:
    (workspace / "app" / name).mkdir(parents=True)
    (workspace / "app" / name / "page").write_text("page\n")
    job = ["cat", f"app/{name}/page"]
    where = workspace.parent / "profiled"
    subprocess.run(
        [capsule_binary, "profile", "--out-dir", where, "--", *job], cwd=workspace, check=True, timeout=60
    )
    (workspace / "p.yaml").write_text((where / "capsule.yaml").read_text())
    ran = Capsule(capsule_binary, workspace).run(*job, options=["--policy", "./p.yaml"])
    assert (ran.code, ran.out) == (0, "page\n"), ran.err


def test_a_directory_that_is_named_on_the_command_line_is_a_name(
    capsule_binary: Path, workspace: Path, home: Path, name: str
) -> None:
    made(workspace / "data", name)
    (workspace / "src").mkdir()
    options = [
        *policy(workspace, "filesystem: {read: [./src]}", "strict"),
        "--read",
        str(workspace / "data" / name),
    ]
    capsule = Capsule(capsule_binary, workspace / "src")
    ran = capsule.run("cat", str(workspace / "data" / name / "page"), options=options)
    assert (ran.code, ran.out) == (0, f"content of {name}\n"), ran.err
    kept = capsule.run("cat", *(str(workspace / "data" / one / "page") for one in OTHERS), options=options)
    assert (kept.code, kept.out) == (1, "")
