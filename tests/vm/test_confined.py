"""The service, the nursery and a machine's monitor as the kernel holds them: looked at while they work."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.host.restraint import NUMBERS, forbidden
from capsem.process import STARTS_SANDBOXES
from capsem.processes import monitor, service
from tests.vm.marks import machines
from tests.vm.test_crashes import _parents, children_of, until
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(900)


@pytest.fixture(scope="module")
def held(home: Home) -> Iterator[str]:
    home.create("-n", "held")
    yield "held"
    home.capsem("delete", "--force", "held")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def opened(pid: int) -> set[str]:
    """What it has open, the numbers of sockets and pipes left out."""
    found = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(re.sub(r":\[\d+\]$", "", os.readlink(f"/proc/{pid}/fd/{entry}")))
    return found


def processes(home: Home, machine: str) -> dict[str, int]:
    """The three that hold power, by what they are."""
    of_service = home.service()
    nurseries = [pid for pid in children_of(of_service, "--nursery") if _parents().get(pid) == of_service]
    (nursery,) = nurseries
    return {"service": of_service, "nursery": nursery, "monitor": int(home.info(machine)["status"]["pid"])}


def test_who_holds_power_over_machines_has_none_over_the_host(home: Home, held: str) -> None:
    assert service.PROCESS.confinement == monitor.PROCESS.confinement == STARTS_SANDBOXES
    keeps = 0
    if os.geteuid() == 0:
        keeps = sum(1 << NUMBERS[name] for name in STARTS_SANDBOXES.root_keeps)
        keeps |= 1 << NUMBERS["CAP_SYS_ADMIN"] if forbidden() else 0
    for name, pid in processes(home, held).items():
        found = status(pid)
        assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0, name
        assert int(found["CapPrm"], 16) & ~keeps == int(found["CapEff"], 16) & ~keeps == 0, name
        if os.geteuid() == 0:
            assert int(found["CapBnd"], 16) & ~keeps == 0, name
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2"), name
        assert set(found["Uid"].split()) == {str(os.geteuid())}, name
    # Control: the same look sees who is not held.
    if os.geteuid() == 0:
        assert int(status(os.getpid())["CapEff"], 16) != 0
    assert status(os.getpid())["NoNewPrivs"] == "0" or "1" in status(os.getppid())["NoNewPrivs"]


def test_what_they_have_open_is_theirs(home: Home, held: str) -> None:
    info = home.info(held)
    at = processes(home, held)
    run = f"{home.path}/run"
    ours = {"/dev/null", "socket", "pipe", "anon_inode:[eventpoll]", "anon_inode:[pidfd]"}
    memory = re.compile(r"/memfd:[\w-]+ \(deleted\)")

    def files(pid: int) -> set[str]:
        return {name for name in opened(pid) - ours if memory.fullmatch(name) is None}

    # A file that is being read is open for that moment.
    of_service = {f"{run}/service.lock", f"{run}/service.log"}
    until(lambda: files(at["service"]) == of_service, f"the service has more open than {of_service}")
    until(lambda: files(at["nursery"]) == {f"{run}/nursery.log"}, "the nursery has more open")
    logs = {f"{info['directory']}/{name}" for name in ("console.log", "monitor.log", "monitor.lock")}
    until(lambda: files(at["monitor"]) <= logs, "the monitor has more open")
    # Control: it would have been seen.
    with Path(info["log"]).open("rb"):
        assert info["log"] in opened(os.getpid())
