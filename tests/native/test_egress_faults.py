"""What goes wrong outside, under `capsule run`: the program is told why, the record says it, and the next run works.

Certificates that are not to be trusted, connections that break off at every place, ends that are slow for ever. Each
has its positive control: the same request toward a server that behaves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.native.egress_faulty import CERTIFICATES, CRUMBS, GOOD, RESETS, SILENT, Faulty
from tests.native.egress_outside import Installation
from tests.native.running import Capsule, Ran

pytestmark = [
    pytest.mark.needs("userns", "landlock", "seccomp-notify", "egress", "curl"),
    pytest.mark.timeout(120),
]

CURL = "curl -sS -m 20 -w '\\nstatus %{http_code}\\n'"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with Faulty(tmp_path_factory.mktemp("faulty")) as found:
        yield found


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    found = Installation()
    yield found
    found.close()


class Runs:
    """Runs toward faulty servers, and what is on their log."""

    def __init__(self, capsule: Capsule, faulty: Faulty) -> None:
        self.capsule, self.faulty = capsule, faulty

    def run(self, script: str, *names: str) -> Ran:
        """A shell's script that may reach these names."""
        options = self.capsule.policy(self.faulty.network(*names))
        return self.capsule.run("/bin/sh", "-c", script, options=options, timeout=100)

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """What is on the log, of one type."""
        lines = (self.capsule.workspace / "capsule.log").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry.get("type") == kind]

    def works(self) -> None:
        """The next run: it reaches what it may, and the log is sound."""
        assert self.run(f"{CURL} https://{GOOD}/next", GOOD).out == "hello /next\nstatus 200\n"
        told = self.capsule.tell([str(self.capsule.binary), "verify", "capsule.log"])
        assert told.returncode == 0, told.stdout


@pytest.fixture
def runs(
    capsule_binary: Path, workspace: Path, installation: Installation, faulty: Faulty, monkeypatch: Any
) -> Runs:
    monkeypatch.setenv("XDG_STATE_HOME", str(installation.state))
    return Runs(Capsule(capsule_binary, workspace), faulty)


SAID = {
    "expired.example": "certificate has expired",
    "early.example": "certificate is not yet valid",
    "wrong.example": "hostname mismatch",
    "stranger.example": "unable to get local issuer certificate",
    "own.example": "self-signed certificate",
}


def test_a_certificate_that_is_not_to_be_trusted_is_named_and_nothing_goes_out(runs: Runs) -> None:
    assert set(SAID) == set(CERTIFICATES)
    ask = "; ".join(f"echo of {name}; {CURL} -d body https://{name}/x" for name in (*CERTIFICATES, GOOD))
    ran = runs.run(ask, *CERTIFICATES, GOOD)
    told = dict(part.split("\n", 1) for part in ran.out.split("of ") if ".example\n" in part[:20])
    assert told[GOOD] == "hello /x\nstatus 200\n", ran.err
    entries = {entry["http"]["host"]: entry["http"] for entry in runs.entries("egress.http")}
    for name, said in SAID.items():
        assert told[name].endswith("status 502\n"), told[name]
        for text in (told[name], entries[name]["error"]):
            assert said in text.lower().replace("self signed", "self-signed"), (name, text)
        assert not runs.faulty.servers[name].seen, "nothing of a request goes to whoever is not known"
    runs.works()


BEFORE_THE_BODY = ("before", "in-head")
LATER = ("after-head", "in-body", "in-chunk-size", "in-chunk", "in-trailers")


def test_an_upstream_that_resets_at_each_place(runs: Runs) -> None:
    places = (*BEFORE_THE_BODY, *LATER)
    script = "\n".join(
        f"{CURL} -o {place}.body https://{GOOD}/reset/{place} > {place}.told; echo {place} $?"
        for place in places
    )
    script += f"""
        head -c 3000000 /dev/zero | {CURL} -T - https://{GOOD}/reset/in-upload > in-upload.told; echo in-upload $?
        {CURL} https://{RESETS}/handshake > handshake.told; echo handshake $?
        {CURL} https://{GOOD}/fine
    """
    began = time.monotonic()
    ran = runs.run(script, GOOD, RESETS)
    assert time.monotonic() - began < 40
    assert ran.out.endswith("hello /fine\nstatus 200\n"), ran.err
    codes = {line.split()[0]: int(line.split()[1]) for line in ran.out.splitlines()[:-2]}
    errors = {entry["http"]["path"]: entry["http"].get("error", "") for entry in runs.entries("egress.http")}
    workspace = runs.capsule.workspace
    for place in places:
        assert errors[f"/reset/{place}"], place
        if place in BEFORE_THE_BODY:
            assert "status 502" in (workspace / f"{place}.told").read_text(), place
            assert "capsule" in (workspace / f"{place}.body").read_text()
        else:
            assert codes[place] != 0, f"{place}: a body that broke off must not look whole"
    assert errors["/reset/in-upload"]
    assert codes["in-upload"] != 0 or "status 502" in (workspace / "in-upload.told").read_text()
    assert errors["/handshake"]
    assert "status 502" in (workspace / "handshake.told").read_text()
    runs.works()


SLOW = """
import socket, ssl, sys, time
what, name = sys.argv[1:]
began = time.monotonic()
sock = socket.create_connection((name, 443))
sock.settimeout(50)
try:
    if what == "nothing":
        pass
    elif what == "hello":
        sock.sendall(b"\\x16\\x03\\x01\\x02\\x00\\x01")
    else:
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=name)
        sock.sendall(b"GET /never HTTP/1.1\\r\\nHost: " + name.encode())
        sock.settimeout(0.5)
        while time.monotonic() - began < 50:
            sock.sendall(b"y")
            try:
                if not sock.recv(100):
                    break
            except TimeoutError:
                pass
    sock.recv(100)
except OSError:
    pass
print(f"{what} {int(time.monotonic() - began)}\\n", end="")  # in one write: others write beside it
"""


@pytest.mark.slow
def test_ends_that_are_slow_for_ever_are_given_up(runs: Runs) -> None:
    """A program that says nothing, half of a hello, half of a head; a server that does the like. All at once."""
    (runs.capsule.workspace / "slow.py").write_text(SLOW)
    programs = " ".join(f"python3 slow.py {what} {GOOD} &" for what in ("nothing", "hello", "head"))
    servers = " ".join(
        f"(curl -sS -m 55 -w ' status %{{http_code}}' https://{name} > {told}.told; echo {told} $SECONDS) &"
        for name, told in (
            (f"{SILENT}/", SILENT),
            (f"{CRUMBS}/", CRUMBS),
            (f"{GOOD}/drip-head", "head-of-server"),
        )
    )
    began = time.monotonic()
    options = runs.capsule.policy(runs.faulty.network(GOOD, SILENT, CRUMBS))
    ran = runs.capsule.run("/bin/bash", "-c", f"{programs} {servers} wait", options=options, timeout=100)
    assert time.monotonic() - began < 50, "each has its deadline, and all ran at once"
    took = {line.split()[0]: int(line.split()[1]) for line in ran.out.splitlines()}
    assert set(took) == {"nothing", "hello", "head", SILENT, CRUMBS, "head-of-server"}, ran.err
    assert took["nothing"] <= 12
    assert took["hello"] <= 12
    assert took["head"] <= 35
    for name in (SILENT, CRUMBS):
        assert took[name] <= 20, name
        assert (runs.capsule.workspace / f"{name}.told").read_text().endswith("status 502"), name
    assert took["head-of-server"] <= 35
    assert (runs.capsule.workspace / "head-of-server.told").read_text().endswith("status 502")
    reasons = " ".join(entry["decision"].get("reason") or "" for entry in runs.entries("egress.tcp"))
    assert "head of a request took more than" in reasons
    errors = {entry["http"]["host"]: entry["http"].get("error") for entry in runs.entries("egress.http")}
    assert errors[SILENT]
    assert errors[CRUMBS]
    assert not [target for _, target, _ in runs.faulty.good.seen if target == "/never"]
    runs.works()
