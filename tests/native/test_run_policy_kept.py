"""A policy of another name than `capsule.yaml`: no run changes it, also one that is under another policy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]

WIDEN = "for f in p.yaml team.yaml free.yaml; do echo '# widened' >> $f; done; rm -f p.yaml; mv team.yaml gone; true"


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    (workspace / "team.yaml").write_text("version: 1\nname: team\nextends: [workspace]\n")
    (workspace / "p.yaml").write_text("version: 1\nname: p\nextends: [./team.yaml]\n")
    (workspace / "free.yaml").write_text("version: 1\nname: free\nextends: [workspace]\n")
    return Capsule(capsule_binary, workspace)


def texts(capsule: Capsule) -> list[bool]:
    """Of each file, whether it is as it was; `free.yaml`, which nobody named, is the control."""
    names = ("p.yaml", "team.yaml", "free.yaml")
    files = [capsule.workspace / name for name in names]
    return [file.exists() and "widened" not in file.read_text() for file in files]


def test_a_later_run_cannot_widen_it(capsule: Capsule) -> None:
    assert capsule.run("true", options=["--policy", "./p.yaml"]).code == 0
    ran = capsule.run("sh", "-c", WIDEN)
    assert ran.code == 0, ran.err
    assert texts(capsule) == [True, True, False]
    reasons = {denial["rule"]["text"] for denial in ran.report["denials"] if denial["rule"]}
    assert reasons == {"the policy of another run"}


def test_neither_can_one_that_is_going_by_then(capsule: Capsule) -> None:
    script = f"echo ready; while ! [ -e go ]; do sleep 0.02; done; {WIDEN}"
    with subprocess.Popen(
        capsule.command("sh", "-c", script), cwd=capsule.workspace, stdout=subprocess.PIPE, text=True
    ) as going:
        assert going.stdout is not None
        assert going.stdout.readline() == "ready\n"
        assert capsule.run("true", options=["--policy", "./p.yaml"]).code == 0
        (capsule.workspace / "go").touch()
        assert going.wait(60) == 0
    assert texts(capsule) == [True, True, False]


def test_what_nobody_named_is_a_file_like_any(capsule: Capsule) -> None:
    assert capsule.run("sh", "-c", WIDEN).code == 0
    assert texts(capsule)[2] is False
    assert not (capsule.workspace / "p.yaml").exists()


def test_of_one_behind_a_link_the_link_is_kept_and_what_it_leads_to(capsule: Capsule) -> None:
    (capsule.workspace / "link.yaml").symlink_to("p.yaml")
    assert capsule.run("true", options=["--policy", "./link.yaml"]).code == 0
    ran = capsule.run("sh", "-c", f"{WIDEN}; ln -sf free.yaml link.yaml; rm -f link.yaml; true")
    assert ran.code == 0, ran.err
    assert texts(capsule) == [True, True, False]
    assert (capsule.workspace / "link.yaml").readlink() == Path("p.yaml")
