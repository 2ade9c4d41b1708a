"""A guest whose root has taken the ports from its agent: it lies in every frame, and floods every port.

`hostile.pl` is what runs in there; all of it is judged from the host: by what the record says came, and was lost. More
lies, each in a frame of its own, are in tests/capsem/host/test_channel.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.vm.logged import logged
from tests.vm.marks import machines
from tests.vm.processes import qemus_of
from tests.vm.test_crashes import children_of, in_order, until, verified
from tests.vm.test_lives import answered
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(1800)
PROGRAM = Path(__file__).with_name("hostile.pl")
TICKS = os.sysconf("SC_CLK_TCK")
# What a lie is, and what is told of it.
LIES = {
    "huge": "a frame of 4294967295 bytes", "kind": "unknown kind 9", "again": "was not asked or was answered",
    "port": "does not say 'pong' there", "never": "which never was", "fault": "the machine's agent says",
}  # fmt: skip


def begin(home: Home, machine: str, *words: str) -> None:
    """Let it begin; the command that does is over before."""
    script = f"cat >/root/hostile.pl; perl /root/hostile.pl {' '.join(words)}"
    home.capsem("exec", machine, "--", "sh", "-c", script, given=PROGRAM.read_bytes())


def entries(log: str) -> list[dict[str, Any]]:
    return [entry for entry in logged(log) if "type" in entry]


@pytest.fixture(scope="module")
def beside(home: Home) -> Iterator[str]:
    """Another machine, which has nothing to do with it."""
    yield home.create("-n", "beside")
    home.capsem("delete", "--force", "beside")


def test_a_guest_that_lies_is_ended_and_it_is_said_why(home: Home, beside: str, capsule_binary: Path) -> None:
    found = {}
    for lie in LIES:
        home.create("-n", lie, "--disk", "64M")
        if lie == "huge":
            home.capsem("exec", lie, "--", "sh", "-c", "echo disk >/root/d; sync")
        begin(home, lie, lie)
    assert home.text("exec", beside, "--", "echo", "here") == "here"
    for lie, told in LIES.items():
        until(lambda lie=lie: home.info(lie)["state"] != "running", f"{lie} is believed")  # type: ignore[misc]
        after = found[lie] = home.info(lie)
        assert after["state"] == "crashed", (lie, after)
        assert told in after["problem"], (lie, after["problem"])
        assert f"capsem start {lie}" in after["next_step"]
        [crash] = [entry for entry in entries(after["log"]) if entry["type"] == "machine.crashed"]
        assert told in crash["reason"]
    code, said = answered(home, "exec", "fault", "--", "true")
    assert code != 0
    assert "\x1b" not in said
    assert home.text("exec", beside, "--", "echo", "here") == "here"
    until(lambda: len(qemus_of(home.path)) == 1, "a machine that is not believed runs on")
    # It is not the disk that lied.
    home.capsem("start", "huge")
    assert home.text("exec", "huge", "--", "cat", "/root/d") == "disk"
    for lie in LIES:
        home.capsem("delete", "--force", lie)
    verified(home, capsule_binary, found["huge"]["log"])
    in_order(home, beside)


@dataclass
class Use:
    """What one process of the host has used."""

    seconds: float
    memory: int
    descriptors: int


def use(pid: int) -> Use:
    """Of a process: processor seconds so far, bytes of memory that are its own, room for descriptors (which grows)."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    own = int(status["RssAnon"].split()[0]) << 10
    return Use((int(stat[11]) + int(stat[12])) / TICKS, own, int(status["FDSize"]))


FLOOD_SECONDS = 8.0
"""How long a flood is looked at, once it has come."""


def test_a_guest_that_floods_every_port_costs_little_and_keeps_nobody_waiting(
    home: Home, beside: str, capsule_binary: Path
) -> None:
    home.create("-n", "flood", "--disk", "64M")
    home.capsem("exec", "flood", "--", "sh", "-c", "echo disk >/root/d; sync")
    before = home.info("flood")
    monitor, log = before["status"]["pid"], Path(before["log"])
    begin(home, "flood", "flood")
    until(lambda: children_of(monitor, "capsem.processes.proxy"), "the flood does not come")
    until(lambda: any(one["type"] == "guest.lost" for one in entries(str(log))), "no report is lost")
    until(
        lambda: any(one["type"] == "egress.flood" for one in entries(str(log))), "no stream is refused unseen"
    )
    watched = {
        "monitor": monitor, "service": home.service(),
        "proxy": max(children_of(monitor, "capsem.processes.proxy"), key=lambda pid: use(pid).memory),
    }  # fmt: skip
    began, first = time.monotonic(), {name: use(pid) for name, pid in watched.items()}
    size = log.stat().st_size
    turns = 0
    while time.monotonic() - began < FLOOD_SECONDS:
        assert home.text("exec", beside, "--", "echo", "here") == "here"
        assert home.info("flood")["state"] == "running"
        turns += 1
    seconds = time.monotonic() - began
    for name, pid in watched.items():
        now = use(pid)
        spent = (now.seconds - first[name].seconds) / seconds
        told = f"{name}: {spent:.2f} of a processor, {now.memory >> 20} MiB, {now.descriptors} descriptors, {turns}"
        print(told)
        assert spent < 0.6, told
        assert now.memory - first[name].memory < 96 << 20, told
        assert now.memory < 256 << 20, told
        assert now.descriptors <= 1024, told
    written = (log.stat().st_size - size) / seconds
    assert written < 400_000, f"{written:.0f} bytes a second are recorded"
    print(f"{written:.0f} bytes a second are recorded")
    assert Path(before["directory"], "console.log").stat().st_size < 2 << 20
    home.capsem("stop", "--force", "flood")
    assert home.info("flood")["state"] == "stopped"
    home.capsem("start", "flood")
    assert home.text("exec", "flood", "--", "cat", "/root/d") == "disk"
    home.capsem("delete", "--force", "flood")
    verified(home, capsule_binary, str(log))
    in_order(home, beside)


@pytest.mark.parametrize(("what", "why"), [("network", "opened after"), ("early", "before it was let in")])
def test_a_guest_that_lies_to_the_proxy_has_no_network_and_goes_on(home: Home, what: str, why: str) -> None:
    home.create("-n", "liar")
    log = home.info("liar")["log"]
    begin(home, "liar", what)
    until(lambda: any(one["type"] == "machine.network_lost" for one in entries(log)), "the proxy believes it")
    [lost] = [one for one in entries(log) if one["type"] == "machine.network_lost"]
    assert why in lost["reason"]
    assert home.info("liar")["state"] == "running"
    monitor = home.info("liar")["status"]["pid"]
    until(lambda: not children_of(monitor, "capsem.processes.proxy"), "its proxy runs on")
    home.capsem("delete", "--force", "liar")
