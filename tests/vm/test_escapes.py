"""What a machine's root tries to get out by, judged from the host; each with the control that it could have been seen.

Devices and firmware, another machine's memory and disk, this host's addresses in every spelling. Live shares are in
test_share, hosts and names in test_network, ports in test_hostile.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.logged import logged
from tests.vm.machines import flavours
from tests.vm.marks import SANDBOX, machines
from tests.vm.processes import alive, qemus_of
from tests.vm.test_crashes import until
from tests.vm.test_machines import Home, home
from tests.vm.test_network import Canary, own_address

__all__ = ["home"]

pytestmark = machines(1800, *SANDBOX)
PROGRAM = Path(__file__).with_name("escapes.pl")
SPELLINGS = (
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1", "localhost",
    "169.254.169.254", "0xa9fea9fe", "2852039166", "::ffff:169.254.169.254", "fd00:ec2::254", "fe80::1",
    "100.100.100.200", "192.0.2.2", "198.18.0.1", "metadata.google.internal", "127.0.0.1.nip.io",
    "host.docker.internal",
)  # fmt: skip


@pytest.fixture(scope="module")
def two(home: Home) -> Iterator[tuple[str, str]]:
    """A machine that attacks, and another that has a secret."""
    for name in ("inside", "other"):
        home.create("-n", name, "--disk", "64M")
    yield "inside", "other"
    for name in ("inside", "other"):
        home.capsem("delete", "--force", name)


def perform(home: Home, *words: str) -> list[str]:
    """What the program says, inside."""
    home.capsem("exec", "inside", "--", "sh", "-c", "cat >/tmp/escapes.pl", given=PROGRAM.read_bytes())
    return home.text("exec", "inside", "--", "perl", "/tmp/escapes.pl", *words).splitlines()


def seen_of(pid: int) -> tuple[set[str], list[str]]:
    """Of a process: what it has open, and what it may."""
    links = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.add(os.readlink(entry))
    held = ("Uid", "Gid", "Cap", "NoNewPrivs", "Seccomp")
    return links, [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(held)
    ]


def test_nothing_of_the_host_or_of_another_machine_is_in_a_machine(home: Home, two: tuple[str, str]) -> None:
    mine, others = os.urandom(16).hex(), os.urandom(16).hex()
    # On the disk, and in memory that a process holds; each is told what it is to keep, not the other.
    for name, secret in (("inside", mine), ("other", others)):
        home.capsem(
            "exec",
            name,
            "--",
            "sh",
            "-c",
            "cat >/root/secret; sync; cp /root/secret /tmp",
            given=secret.encode(),
        )
    wanted = [
        mine,
        others,
        home.path.name,
        os.uname().nodename + "/" + str(home.path),
        home.info("other")["id"],
    ]
    said = perform(home, "scan", *(text.encode().hex() for text in wanted))
    found = {line.split()[1] for line in said if line.startswith("found")}
    assert found == {"0"}, [line for line in said if line.startswith("found")]
    assert "found 0 /dev/vdb" in said, "the control: what is its own is found by the same means"
    assert sum(line.startswith(("read /sys/firmware", "read /sys/bus")) for line in said) > 5


def test_devices_lead_nowhere(home: Home, two: tuple[str, str]) -> None:
    pids = {name: home.info(name)["status"]["qemu_pid"] for name in two}
    qemus = qemus_of(home.path)
    before = {pid: seen_of(pid) for pid in qemus}
    said = perform(home, "devices")
    assert len(said) == 11
    if flavours()[0] == "hardened":
        assert [line for line in said if line.endswith("done")] == []
    # Debian's kernel has some of them; what is done with them stays with the machine.
    assert {line.rpartition(" ")[0] for line in said if line.endswith("done")} <= {
        "iopl", "ioperm", "memory", "ports", "kernel image",
    }  # fmt: skip
    for name, pid in pids.items():
        assert alive(pid), name
        assert home.info(name)["status"]["qemu_pid"] == pid
        assert home.text("exec", name, "--", "echo", "here") == "here"
    assert {pid: seen_of(pid) for pid in qemus} == before
    # Nothing listens in QEMU's network, and its monitor has no name.
    for pid in qemus:
        assert len(Path(f"/proc/{pid}/net/tcp").read_text().splitlines()) == 1
        names = [line.split()[7:] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
        assert not any(names), names


def test_no_spelling_of_an_address_leads_to_the_host(home: Home, two: tuple[str, str]) -> None:
    canary = Canary()
    try:
        for address in ("127.0.0.1", own_address()):
            with socket.create_connection((address, canary.port)) as sock:
                sock.recv(1)
        until(lambda: canary.touched == ["tcp", "tcp"], "the control: it can be reached")
        canary.touched.clear()
        said = perform(home, "dial", str(canary.port), *SPELLINGS, own_address(), os.uname().nodename)
        assert sum(line.endswith("tried") for line in said) == len(SPELLINGS) + 2
        assert [line for line in said if line.endswith("answered")] == []
        assert canary.touched == []
    finally:
        canary.close()
    log = logged(home.info("inside")["log"])
    tried = {
        entry["tcp"]["host"]: entry["decision"]["action"]
        for entry in log
        if entry.get("type") == "egress.tcp"
    }
    assert {tried[address] for address in ("169.254.169.254", "100.100.100.200")} == {"block"}
