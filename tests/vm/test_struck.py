"""kill -9 of the service and of the monitor, in the middle of what a person asks a machine for: alone in their home.

What was acknowledged is there, nothing else is half there, and the state is clear (the programs that ask are killed in
`test_kills.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vm.marks import machines
from tests.vm.processes import qemus_of
from tests.vm.test_crashes import begun, ended, in_order, kill, until
from tests.vm.test_kills import NAMES, workspace_of
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(1800)


def started_again(home: Home, machine: str, victim: str) -> None:
    """It runs: nothing happened to it when its service was killed; without its monitor it has crashed, and says so."""
    if victim == "monitor":
        until(lambda: home.info(machine)["state"] == "crashed", "its end is not noticed")
        assert home.info(machine)["problem"]
        until(lambda: not qemus_of(home.path), "a machine runs on without its monitor")
        home.capsem("start", machine)
    assert home.info(machine)["state"] == "running"


def struck(home: Home, machine: str, victim: str, seen: Callable[[], object], *words: str) -> bool:
    """Kill the victim in the middle of a verb; whether the verb was acknowledged."""
    pid = home.service() if victim == "service" else int(home.info(machine)["status"]["pid"])
    at_work = begun(home, *words)
    until(lambda: seen() or at_work.poll() is not None, f"{words} does nothing")
    kill(pid)
    code, said = ended(at_work)
    assert code == 0 or said.strip(), (words, "ended without a word")
    return code == 0


@pytest.mark.parametrize("victim", ["service", "monitor"])
def test_its_service_or_monitor_is_killed_in_the_middle(home: Home, tmp_path: Path, victim: str) -> None:
    for number in range(NAMES):
        (tmp_path / f"f{number}").write_text("before\n")
    home.create("-n", "struck", "--workspace", str(tmp_path))
    change = "for f in f*; do echo after >$f; done; sync"
    count = ("exec", "struck", "--", "sh", "-c", "cat /workspace/f* | grep -c after || true")
    home.capsem("exec", "struck", "--", "sh", "-c", change)
    kept, log = workspace_of(home, "struck"), Path(home.info("struck")["log"])
    try:
        told = struck(
            home, "struck", victim, lambda: [*kept.glob("objects/*")], "snapshot", "create", "struck", "one"
        )
        started_again(home, "struck", victim)
        assert ("one" in home.text("snapshot", "list", "struck").split()) >= told
        if "one" not in home.text("snapshot", "list", "struck").split():
            home.capsem("snapshot", "create", "struck", "one")
        assert not [*kept.glob("objects/new-*")]
        assert home.text(*count) == str(NAMES)

        home.capsem("exec", "struck", "--", "sh", "-c", "rm -f f1*; echo other >f2; sync")
        told = struck(
            home, "struck", victim, lambda: "unpack" in log.read_text(), "snapshot", "revert", "struck", "one"
        )
        started_again(home, "struck", victim)
        if not told:
            # Of one that went back half of the way nothing was told; what is kept is whole.
            home.capsem("snapshot", "revert", "struck", "one")
        assert victim == "monitor" or home.text(*count) == str(NAMES)
        home.capsem("snapshot", "revert", "struck", "one")
        if victim == "monitor":
            # What it was told to have put back is on its disk: else an apply would take it for removed.
            kill(int(home.info("struck")["status"]["pid"]))
            started_again(home, "struck", victim)
        assert home.text(*count) == str(NAMES)

        told = struck(
            home, "struck", victim, lambda: [*tmp_path.glob(".capsule-apply-*/*.old")], "apply", "struck"
        )
        if told:
            assert {path.read_text() for path in tmp_path.iterdir()} == {"after\n"}
        started_again(home, "struck", victim)
        home.capsem("apply", "struck")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"f{n}" for n in range(NAMES))
        assert {path.read_text() for path in tmp_path.iterdir()} == {"after\n"}

        told = struck(home, "struck", victim, lambda: copied(home), "fork", "struck", "image")
        started_again(home, "struck", victim)
        assert told <= ("image" in images(home))
        if "image" in images(home):
            home.capsem("image", "rm", "image")

        home.capsem("exec", "struck", "--", "sh", "-c", "echo mem >/tmp/m")
        directory = Path(home.info("struck")["directory"])
        told = struck(home, "struck", victim, lambda: [*directory.glob("suspended*")], "suspend", "struck")
        until(lambda: home.info("struck")["state"] in {"running", "suspended", "crashed"}, "no clear state")
        state = home.info("struck")["state"]
        assert not told or state == "suspended"
        assert state != "crashed" or victim == "monitor"
        if state == "suspended":
            home.capsem("resume", "struck")
        elif state == "crashed":
            until(lambda: not qemus_of(home.path), "a machine runs on without its monitor")
            until(lambda: not [*directory.glob("suspended*")], "half of its memory is left on the disk")
            home.capsem("start", "struck")
        if state != "crashed":
            assert home.text("exec", "struck", "--", "cat", "/tmp/m") == "mem"
        assert home.text(*count) == str(NAMES)
        assert not [*directory.glob("suspended*")]
        in_order(home, "struck")
    finally:
        home.capsem("delete", "--force", "struck")
    in_order(home)


def copied(home: Home) -> list[Path]:
    return [*Path(home.path, "sessions").glob("*/copies/*")]


def images(home: Home) -> set[str]:
    return {name for one in json.loads(home.capsem("image", "list", "--json")) for name in one["names"]}
