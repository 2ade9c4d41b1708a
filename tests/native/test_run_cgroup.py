"""`capsule run` in a control group of its own: where one is delegated the kernel keeps the bounds; else it is said."""

from __future__ import annotations

import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.cgroups import Subtree, within
from tests.native.running import Capsule, alive
from tests.native.test_run_tiers import DEGRADED, WITHOUT

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]

PYTHON = "/usr/bin/python3"
# Four processes, each far below the limit of one process, together far above the limit of all.
SPREAD = """
import os, time
reading, writing = os.pipe()
for number in range(4):
    if os.fork() == 0:
        kept = b"x" * (60 << 20)
        os.write(writing, b"!")
        time.sleep(60)
        os._exit(0)
for number in range(4):
    os.read(reading, 1)
print("alive")
"""
FORKS = """
import os, time
made = 0
for _ in range(300):
    try:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
    except OSError as refusal:
        print(refusal.errno)
        break
    made += 1
print(made)
"""


@pytest.fixture
def subtree() -> Iterator[Subtree]:
    with Subtree() as made:
        yield made


@pytest.fixture
def inside(capsule_binary: Path, workspace: Path, home: Path, subtree: Subtree) -> Capsule:
    """Runs start in a leaf of a delegated group that hands its controllers down."""
    subtree.hand_down()
    return Capsule(capsule_binary, workspace, before=within(subtree.leaf("caller"), []))


@pytest.mark.needs("cgroup-v2-delegated")
class TestDelegated:
    def test_the_layer_is_enforced_and_can_be_required(self, inside: Capsule, subtree: Subtree) -> None:
        ran = inside.run("true", options=inside.policy("require: [cgroup]\n"))
        assert ran.code == 0, ran.err
        assert ran.report["enforced"]["layers"]["cgroup"] == "enforced"
        assert subtree.names() == ["caller"]

    def test_memory_is_bounded_over_all_processes(self, inside: Capsule, subtree: Subtree) -> None:
        roomy = inside.run(PYTHON, "-c", SPREAD, options=inside.policy("limits: {memory: 1GiB}\n"))
        assert (roomy.code, roomy.out) == (0, "alive\n"), roomy.err
        ran = inside.run(PYTHON, "-c", SPREAD, options=inside.policy("limits: {memory: 128MiB}\n"))
        assert (ran.code, ran.exit["cause"], ran.exit["limit"]) == (124, "limit", "memory"), ran.err
        assert ran.out == ""
        assert '"limit":"memory"' in (inside.workspace / "capsule.log").read_text()
        assert subtree.names() == ["caller"]

    def test_processes_are_bounded(self, inside: Capsule) -> None:
        ran = inside.run(PYTHON, "-c", FORKS, options=inside.policy("limits: {processes: 20}\n"))
        # Root's are also counted by the supervisor, which ends the run; an ordinary user's are refused.
        if ran.exit["cause"] == "exited":
            refused, made = ran.out.split()
            assert (refused, int(made) <= 20 + 65) == ("11", True)
        else:
            assert (ran.exit["cause"], ran.exit["limit"]) == ("limit", "processes")

    def test_a_supervisor_that_is_killed_leaves_nothing_for_long(
        self, inside: Capsule, subtree: Subtree
    ) -> None:
        process = subprocess.Popen(inside.command("sleep", "5391"), cwd=inside.workspace)
        try:
            for _ in range(500):
                if alive("5391") and len(subtree.names()) > 1:
                    break
                time.sleep(0.01)
            assert [name[:10] for name in subtree.names()] == ["caller", "capsule-r-"]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        inside.run("true")
        assert subtree.names() == ["caller"]

    @pytest.mark.needs("root")
    def test_alone_in_its_group_it_moves_aside_and_back(
        self, as_ordinary_user: Capsule, ordinary_user: pwd.struct_passwd, subtree: Subtree
    ) -> None:
        subtree.give(ordinary_user)
        capsule = as_ordinary_user.inside(within(subtree.path, []))
        for _ in range(2):
            ran = capsule.run("true")
            assert (ran.code, ran.report["enforced"]["layers"]["cgroup"]) == (0, "enforced"), ran.exit
            assert subtree.names() == []
            assert (subtree.path / "cgroup.subtree_control").read_text().strip() == ""

    @pytest.mark.needs("root")
    def test_nobody_else_s_process_is_moved(
        self, as_ordinary_user: Capsule, ordinary_user: pwd.struct_passwd, subtree: Subtree
    ) -> None:
        subtree.give(ordinary_user)
        with subprocess.Popen(within(subtree.path, ["sleep", "60"])) as neighbour:
            while str(neighbour.pid) not in (subtree.path / "cgroup.procs").read_text().split():
                time.sleep(0.01)
            ran = as_ordinary_user.inside(within(subtree.path, [])).run("true")
            assert (ran.code, ran.report["enforced"]["layers"]["cgroup"]) == (0, "unavailable")
            assert str(neighbour.pid) in (subtree.path / "cgroup.procs").read_text().split()
            neighbour.kill()

    def test_without_a_process_namespace_it_ends_what_was_left_behind(
        self, inside: Capsule, subtree: Subtree
    ) -> None:
        before = [*inside.before, sys.executable, "-c", WITHOUT]
        confined = Capsule(inside.binary, inside.workspace, before)
        ran = confined.run("sh", "-c", "setsid sleep 5392 & sleep 0.3", options=DEGRADED)
        assert (ran.code, ran.report["enforced"]["layers"]["cgroup"]) == (0, "enforced"), ran.err
        assert alive("5392") == []
        assert subtree.names() == ["caller"]


@pytest.mark.needs("cgroup-v2")
class TestUndelegated:
    def test_a_group_without_the_controllers_says_which(
        self, capsule_binary: Path, workspace: Path, home: Path, subtree: Subtree
    ) -> None:
        # Nothing was handed down to the leaf: it has none. Beside version 1 the host has not all of them itself.
        capsule = Capsule(capsule_binary, workspace, before=within(subtree.leaf("caller"), []))
        ran = capsule.run("true", options=capsule.policy("require: [cgroup]\n"))
        assert ran.code == 125
        assert "lacks the controllers memory and pids; it has " in ran.exit["reason"]
        assert capsule.run("true").report["enforced"]["layers"]["cgroup"] == "unavailable"
        assert subtree.names() == ["caller"]

    @pytest.mark.needs("root")
    def test_somebody_else_s_group_is_not_divided(self, as_ordinary_user: Capsule, subtree: Subtree) -> None:
        ran = as_ordinary_user.inside(within(subtree.leaf("caller"), [])).run("true")
        assert (ran.code, ran.report["enforced"]["layers"]["cgroup"]) == (0, "unavailable")
        assert subtree.names() == ["caller"]
