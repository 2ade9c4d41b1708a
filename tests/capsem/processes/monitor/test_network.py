"""The monitor's side: the proxy as a process of its own, confined, with a guest's port that this test speaks on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from capsem.errors import MachineError, NotFoundError, UsageError
from capsem.processes.monitor.network import KINDS, Network
from capsem.processes.proxy import PROCESS
from capsem.vm.network import NOTHING, NetworkSpec
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec
from capsem.wire.monitor import Answer
from capsule import egress
from tests.capsem.processes.monitor.guestend import GuestEnd
from tests.capsem.processes.monitor.standing import ID
from tests.capsem.processes.proxy.standing import host

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.needs("userns", "landlock", "seccomp-notify"),
    pytest.mark.timeout(120),
]


class Standing:
    """One network, its log as a list, and the guest's end of its port."""

    def __init__(self, directory: Path, *hosts: dict[str, Any], **plan: Any) -> None:
        spec = NetworkSpec("p", "d", json.dumps({**NOTHING, "hosts": hosts, **plan})) if hosts else None
        record = Record(id=ID, spec=MachineSpec(network=spec), digest="d", created="2026-01-01T00:00:00Z")
        self.entries: list[dict[str, Any]] = []
        self.broken = False
        self.network = Network(record, self._write, directory)
        self.port, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.mcp, self.far_mcp = socket.socketpair()
        self.far_mcp.setblocking(False)
        self.guest = GuestEnd(self.port)
        self.resolve = self.guest.resolve

    async def _write(self, kind: str, fields: dict[str, Any]) -> None:
        if self.broken:
            raise MachineError("the disk is full", next_step="")
        self.entries.append({"type": kind, **fields})

    async def until(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while True:
                for entry in self.entries:
                    if entry["type"] == kind:
                        return entry
                await asyncio.sleep(0.02)


Start = Callable[..., Standing]


@pytest_asyncio.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    made: list[Standing] = []

    def begin(*hosts: dict[str, Any], **plan: Any) -> Standing:
        made.append(Standing(tmp_path, *hosts, **plan))
        return made[-1]

    yield begin
    for one in made:
        await one.network.close()
        for sock in (one.port, one.far, one.mcp, one.far_mcp):
            sock.close()


def program_of(pid: int) -> int:
    """The process below `capsule run` that is the proxy."""
    while True:
        [children] = [(Path(f"/proc/{pid}/task/{pid}/children")).read_text().split()]
        if not children:
            return pid
        pid = int(children[-1])


async def test_a_machine_without_a_policy_has_no_proxy_until_it_says_something(start: Start) -> None:
    stand = start()
    assert await stand.network.authority() is None
    stand.network.attach(stand.far, stand.far_mcp)
    await asyncio.sleep(0.1)
    assert stand.network.proxy_pid is None
    assert await stand.resolve("a.example", 1) == 3
    entry = await stand.until("egress.dns")
    assert (entry["decision"]["action"], entry["program"]["reported_by"]) == ("block", "guest")


@pytest.mark.parametrize("hosts", [(), (host("a.example"),)], ids=["nothing", "a host"])
async def test_a_guest_that_hangs_up_without_a_word_has_no_proxy(
    start: Start, hosts: tuple[dict[str, Any], ...]
) -> None:
    stand = start(*hosts)
    stand.network.attach(stand.far, stand.far_mcp)
    await asyncio.sleep(0.05)
    assert stand.network.proxy_pid is None, "it starts when there is something to serve"
    stand.port.close()
    await asyncio.sleep(0.1)
    assert stand.network.proxy_pid is None
    assert stand.network._running is None


async def test_the_running_proxy_is_confined_as_it_declares(start: Start) -> None:
    stand = start(host("a.example"))
    assert "BEGIN CERTIFICATE" in (await stand.network.authority() or "")
    stand.network.attach(stand.far, stand.far_mcp)
    assert await stand.resolve("a.example", 1) == 0
    assert stand.network.proxy_pid is not None
    pid = program_of(stand.network.proxy_pid)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["CapEff"].strip("0") == status["CapBnd"].strip("0") == status["CapPrm"].strip("0") == ""
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert set(status["Uid"].split()) == {str(os.getuid())}
    for space in ("net", "user", "mnt", "pid", "ipc"):
        assert Path(f"/proc/{pid}/ns/{space}").readlink() != Path(f"/proc/self/ns/{space}").readlink(), space
    devices = [
        line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    ]
    assert devices == ["lo"]
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    kinds = ("socket:", "anon_inode:", "pipe:", "/dev/null")
    own = str(stand.network._directory / "proxy.log")
    assert [link for link in links if not link.startswith(kinds) and link != own] == []
    for mapped in Path(f"/proc/{pid}/maps").read_text().splitlines():
        assert "sqlite" not in mapped
    maps = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert b"capsem.processes.proxy" in maps
    # Control: this very look would see it elsewhere.
    assert Path("/proc/self/status").read_text().count("Seccomp:\t2") + len(devices) >= 1


async def test_what_the_proxy_has_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, json, capsem.processes.proxy.serving; from capsem.processes.proxy import PROCESS;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    out, _ = await process.communicate()
    loaded = json.loads(out)
    wrong = [
        name
        for name in loaded
        for never in PROCESS.never_loads
        if name == never or name.startswith(never + ".")
    ]
    assert wrong == []
    assert "capsule.egress.session" in loaded


async def test_a_faulty_guest_loses_its_network_on_the_record(start: Start) -> None:
    stand = start(host("a.example"))
    stand.network.attach(stand.far, stand.far_mcp)
    assert await stand.resolve("a.example", 1) == 0
    await asyncio.get_running_loop().sock_sendall(stand.port, b"\0\0\0\0")
    lost = await stand.until("machine.network_lost")
    assert "frame of 0 bytes" in lost["reason"]


async def test_what_cannot_be_recorded_is_not_answered(start: Start) -> None:
    stand = start(host("a.example"))
    stand.network.attach(stand.far, stand.far_mcp)
    assert await stand.resolve("a.example", 1) == 0
    stand.broken = True
    with pytest.raises(AssertionError, match="hung up"):
        await stand.resolve("b.example", 2)


async def test_a_killed_proxy_ends_the_network_and_says_so(start: Start) -> None:
    stand = start(host("a.example"))
    stand.network.attach(stand.far, stand.far_mcp)
    assert await stand.resolve("a.example", 1) == 0
    assert stand.network.proxy_pid is not None
    pid = program_of(stand.network.proxy_pid)
    os.kill(pid, 9)
    assert "ended with" in (await stand.until("machine.network_lost"))["reason"]
    assert await asyncio.get_running_loop().sock_recv(stand.port, 10) == b""


SECRET = {
    "name": "api",
    "from": {"kind": "env"},
    "to": ["a.example"],
    "as": "header",
    "field": "X",
    "env": "TOKEN",
}


async def test_a_policy_with_secrets_waits_for_their_values_and_shows_none(start: Start) -> None:
    stand = start(host("a.example"), secrets=[SECRET])
    stand.network.attach(stand.far, stand.far_mcp)
    asked = asyncio.create_task(stand.resolve("a.example", 1))
    await asyncio.sleep(0.2)
    assert stand.network.proxy_pid is None
    shown = stand.network.environment()
    assert shown["TOKEN"].startswith("capsule-secret-api-")
    assert shown["NODE_EXTRA_CA_CERTS"] == "/run/capsem/ca.pem"
    with pytest.raises(UsageError, match="other secrets: api"):
        await stand.network.give({"other": "v"})
    await stand.network.give({"api": "the-real-value"})
    assert await asked == 0
    await stand.network.give({"api": "a-fresh-value"})
    assert await stand.resolve("a.example", 2) == 0
    files = [path for path in stand.network._directory.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"the-real-value" in path.read_bytes()]


async def test_an_answer_to_nothing_is_none(start: Start) -> None:
    stand = start(host("a.example"))
    assert stand.network.environment()
    assert start().network.environment() == {}
    assert await stand.network.asks(0.01) == ()
    with pytest.raises(NotFoundError):
        await stand.network.answer(Answer("x", "allow"))


async def test_every_entry_that_the_egress_of_a_run_writes_may_be_written() -> None:
    """One that is missing takes the network from a machine when it is first written."""
    source = "".join(place.read_text() for place in Path(egress.__file__).parent.rglob("*.py"))
    written = set(re.findall(r'"(egress\.[a-z_]+)"', source)) - {"egress.log", "egress.lost"}
    assert "egress.budget" in written
    assert written <= KINDS


async def test_what_stands_for_a_secret_is_the_same_when_the_machine_goes_on(start: Start) -> None:
    """Programs of a machine that was suspended hold it in their memory."""
    stand = start(host("a.example"), secrets=[SECRET])
    shown, place = stand.network.environment()["TOKEN"], stand.network._directory / "placeholders.json"
    again = Network(stand.network._record, stand._write, stand.network._directory)
    assert again.environment()["TOKEN"] == shown
    assert place.stat().st_mode & 0o777 == 0o600
    for wrong in ("{", "[]", '{"other": "x"}', '{"api": "Authorization"}', '{"api": 7}'):
        place.write_text(wrong)
        with pytest.raises(MachineError, match="does not name the secrets"):
            Network(stand.network._record, stand._write, stand.network._directory)
