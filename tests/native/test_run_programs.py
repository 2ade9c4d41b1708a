"""`process.programs`: what a digest promises, and what the loader can still map."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import blake3
import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace)


def pinned(path: Path) -> str:
    digest = blake3.blake3(path.read_bytes()).hexdigest()
    return f"process: {{programs: [{{path: {path}, digest: 'blake3:{digest}'}}]}}\n"


def test_a_pinned_program_runs_where_nobody_inside_can_replace_it(capsule: Capsule) -> None:
    ran = capsule.run("/usr/bin/true", options=capsule.policy(pinned(Path("/usr/bin/true"))))
    assert ran.code == 0, ran.exit


def test_a_pinned_program_in_a_writable_place_is_refused(capsule: Capsule) -> None:
    program = capsule.workspace / "tool"
    shutil.copy("/usr/bin/true", program)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    ran = capsule.run("./tool", options=capsule.policy(pinned(program)))
    assert (ran.code, ran.exit["cause"]) == (125, "refused")
    assert str(program) in ran.exit["reason"]


def test_the_loader_maps_no_program_of_a_program_directory(capsule: Capsule) -> None:
    loader = next(Path("/").glob("lib64/ld-linux-*"), None) or next(Path("/lib").glob("ld-linux-*"))
    programs = f"process: {{programs: [/bin/sh, {loader}]}}\n"
    copied = capsule.workspace / "copied"
    shutil.copy("/usr/bin/id", copied)
    # The control: where every program may run, the loader starts the one it is given.
    control = capsule.run(str(loader), "/usr/bin/id", "-u")
    assert control.code == 0, control.err
    for name in ("/usr/bin/id", str(copied)):
        ran = capsule.run(str(loader), name, "-u", options=capsule.policy(programs))
        assert ran.code != 0
        assert ran.out == ""
