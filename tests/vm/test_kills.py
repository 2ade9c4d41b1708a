"""kill -9 of what a person runs, in the middle of it: apply, snapshots, suspend, and the build of an image.

The steps of taking over are killed one by one in tests/overlay/test_journal.py; here it is the program and a machine.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.host.rooms import abandoned, clear
from tests.vm.marks import machines
from tests.vm.test_crashes import begun, children_of, ended, in_order, kill, until
from tests.vm.test_lives import home_line
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(1800)
NAMES = 300


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for number in range(NAMES):
        (root / f"f{number}").write_text("before\n")
    return root


@pytest.fixture(scope="module")
def worked(home: Home, project: Path) -> Iterator[str]:
    """A machine that changed every file of its workspace."""
    home.create("-n", "worked", "--workspace", str(project))
    home.capsem(
        "exec", "worked", "--", "sh", "-c", "echo mem >/tmp/m; for f in f*; do echo after >$f; done; sync"
    )
    yield "worked"
    home.capsem("delete", "--force", "worked")
    in_order(home)


def workspace_of(home: Home, machine: str) -> Path:
    return Path(home.info(machine)["directory"], "workspace")


def test_snapshots_that_are_killed(home: Home, worked: str) -> None:
    kept = workspace_of(home, worked)
    making = begun(home, "snapshot", "create", worked, "first")
    until(lambda: [*kept.glob("objects/*")] or making.poll() is not None, "nothing is kept")
    kill(making.pid)
    ended(making)
    home.capsem("snapshot", "create", worked, "second")
    assert "second" in home.text("snapshot", "list", worked)
    assert not [*kept.glob("objects/new-*")]
    # Of one that went back half of the way nothing is told; a second time goes all of it.
    home.capsem("exec", worked, "--", "sh", "-c", "rm -f f1*; echo other >f2")
    reverting = begun(home, "snapshot", "revert", worked, "second")
    log = Path(home.info(worked)["log"])
    until(lambda: "unpack" in log.read_text() or reverting.poll() is not None, "it does not go back")
    kill(reverting.pid)
    ended(reverting)
    home.capsem("snapshot", "revert", worked, "second")
    count = "cat f* | grep -c after"
    assert home.text("exec", worked, "--", "sh", "-c", count) == str(NAMES)


def test_apply_that_is_killed_leaves_all_or_nothing(home: Home, worked: str, project: Path) -> None:
    applying = begun(home, "apply", worked)
    until(
        lambda: [*project.glob(".capsule-apply-*/*.old")] or applying.poll() is not None,
        "nothing is taken over",
    )
    kill(applying.pid)
    ended(applying)
    home.capsem("apply", worked)
    assert sorted(path.name for path in project.iterdir()) == sorted(f"f{number}" for number in range(NAMES))
    assert {path.read_text() for path in project.iterdir()} == {"after\n"}
    kept = workspace_of(home, worked)
    assert [path.name for path in kept.iterdir() if path.name.startswith(("upper-", "appl"))] == []


def test_suspend_with_its_service_killed(home: Home, worked: str) -> None:
    directory = Path(home.info(worked)["directory"])
    suspending = begun(home, "suspend", worked)
    until(
        lambda: [*directory.glob("suspended*")] or suspending.poll() is not None,
        "nothing is kept of its memory",
    )
    kill(home.service())
    ended(suspending)
    until(lambda: home.info(worked)["state"] in {"running", "suspended"}, "neither runs nor is suspended")
    if home.info(worked)["state"] == "suspended":
        home.capsem("resume", worked)
    assert home.text("exec", worked, "--", "cat", "/tmp/m") == "mem"
    assert not [*directory.glob("suspended*")]


def built(home: Home, tmp_path: Path) -> tuple[list[str], dict[str, str], Path]:
    """The build of an image whose root has to be fetched: its line, its environment, and where its tools work."""
    cache = tmp_path / "cache"
    kernels = Path(os.environ.get("CAPSEM_CACHE", f"{Path.home()}/.cache/capsem"), "kernels")
    cache.mkdir(mode=0o700)
    subprocess.run(["cp", "-a", kernels, cache / "kernels"], check=True)
    places = tmp_path / "tmp"
    places.mkdir(mode=0o755)
    for above in (tmp_path, *tmp_path.parents):
        if not (mode := above.stat().st_mode) & 0o001:
            above.chmod(mode | 0o011)  # the users of mmdebstrap's namespace go through them
    line = [*home_line(), "image", "build", "--recipe", "minimal", "--kernel", "stock", "-n", "again"]
    env = {**home.env, "CAPSEM_CACHE": str(cache), "TMPDIR": str(places)}
    return line, env, places


def test_a_build_that_is_killed_takes_mmdebstrap_with_it(home: Home, tmp_path: Path) -> None:
    line, env, places = built(home, tmp_path)
    building = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: [*places.glob("capsem-build-*/*")] or building.poll() is not None, "nothing is fetched")
    [tool, *_] = children_of(building.pid, "mmdebstrap")
    group = os.getpgid(tool)
    kill(building.pid)
    building.wait()
    until(lambda: not _runs(group), "mmdebstrap runs on for nobody")
    assert not [one for one in Path("/proc/self/mountinfo").read_text().splitlines() if str(places) in one]
    # What it left is not held, and goes when the next one begins.
    for left in abandoned(places, ("capsem-build-",)):
        clear(left)
    assert list(places.iterdir()) == []
    names = {name for one in home.text("image", "list").splitlines() for name in one.split()}
    assert "again" not in names


def test_a_build_whose_mmdebstrap_is_killed_says_so_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    line, env, places = built(home, tmp_path)
    building = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # What lies there is not everybody's to see; that the tool has begun something else is.
    tools: list[int] = []

    def at_work() -> bool:
        tools[:] = children_of(building.pid, "mmdebstrap")
        return any(children_of(one, "") for one in tools[:1]) or building.poll() is not None

    until(at_work, "nothing is begun")
    assert tools, building.communicate()[1]
    tool, group = tools[0], os.getpgid(tools[0])
    assert group == tool
    kill(tool)
    began = time.monotonic()
    said = building.communicate(timeout=60)[1]
    assert time.monotonic() - began < 30, "it waited for what the tool had begun"
    assert building.returncode == 125
    assert "building the root file system failed: mmdebstrap was killed (SIGKILL)" in said
    assert "nothing half-done was kept" in said.splitlines()[-1]
    until(lambda: not _runs(group), "what it began runs on")
    assert list(places.iterdir()) == []
    assert not [one for one in Path("/proc/self/mountinfo").read_text().splitlines() if str(places) in one]
    assert [*tmp_path.glob("cache/roots/*/*")] == [], "of the cache only its lock is there"
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert "again" in home.text("image", "list")


def _runs(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
