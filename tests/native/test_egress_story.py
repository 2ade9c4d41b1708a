"""What egress refused stands in the run's report and is told at its end: who, what, which line, what would allow it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("egress", "landlock", "seccomp-notify", "curl"), pytest.mark.timeout(120)]

POLICY = """\
network:
  hosts:
    - {{host: a.example, ports: [80], methods: [GET], private: true}}
  upstreams: [{{host: a.example, address: "127.0.0.1:{port}"}}]
rules: [./rules.yaml]
"""
RULES = """\
version: 1
rules:
  - id: no-drafts
    on: http
    when: http.path.startsWith("/drafts")
    action: block
    reason: drafts stay inside
"""
TRIES = """\
curl -sS -m 20 http://a.example/fine
curl -sS -m 20 -o /dev/null http://a.example/drafts/1
curl -sS -m 20 -o /dev/null -X POST http://a.example/other
curl -sS -m 20 http://evil.example/ || true
"""


@pytest.fixture
def port() -> Iterator[int]:
    """A server that says yes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nyes")

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path) -> Capsule:
    (workspace / "rules.yaml").write_text(RULES)
    return Capsule(capsule_binary, workspace)


def test_the_report_lists_what_egress_refused(capsule: Capsule, port: int) -> None:
    ran = capsule.run("sh", "-c", TRIES, options=capsule.policy(POLICY.format(port=port)))
    assert (ran.code, ran.out) == (0, "yes"), ran.err
    denials = {denial["target"]: denial for denial in ran.report["denials"]}
    rule = denials["GET http://a.example/drafts/1"]
    assert (rule["layer"], rule["operation"], rule["errno"]) == ("egress", "request", "HTTP 403")
    assert rule["program"].endswith("/curl")
    assert rule["rule"]["text"] == "no-drafts: drafts stay inside"
    assert rule["rule"]["file"].endswith("rules.yaml")
    assert rule["rule"]["line"] == 3
    method = denials["POST http://a.example/other"]
    assert "POST" in method["rule"]["text"]
    assert method["allow"]
    name = denials["evil.example"]
    assert (name["operation"], name["errno"], name["rule"]) == ("resolve", "NXDOMAIN", None)
    assert name["allow"] == "network: hosts: [evil.example]"
    log = [json.loads(line) for line in (capsule.workspace / "capsule.log").read_text().splitlines()]
    ended = next(entry for entry in log if entry.get("type") == "run.ended")
    assert ended["denials"] == ran.report["denials_total"] >= 3


def test_a_person_is_told(capsule: Capsule, port: int) -> None:
    options = capsule.policy(POLICY.format(port=port))
    done = capsule.tell(capsule.command("sh", "-c", TRIES, options=options))
    assert done.stdout == "yes"
    told = [line for line in done.stderr.splitlines() if line.startswith("capsule:")]
    at = next(number for number, line in enumerate(told) if "/drafts/1" in line)
    assert told[at].startswith(
        "capsule: denied  curl  request  GET http://a.example/drafts/1   (no-drafts: drafts stay inside at "
    )
    assert told[at].endswith("rules.yaml:3)")
    assert told[at + 1].startswith("capsule:         to allow: ")
    assert any("resolve  evil.example" in line for line in told)
    assert "capsule:         to allow: network: hosts: [evil.example]" in told


def test_what_egress_relies_on_is_refused_by_its_own_line(
    capsule: Capsule, port: int, workspace: Path, home: Path
) -> None:
    """No line of `deny` or `protect` says so, and none could be taken out: a secret's file stays outside."""
    (home / ".token").write_text("value-of-the-secret")
    policy = POLICY.format(port=port) + (
        "secrets:\n"
        "  - {name: key, from: {file: ~/.token}, to: [a.example], as: header, field: Authorization, env: KEY}\n"
        "filesystem: {read: ['~'], protect: [./kept]}\n"
    )
    script = "cat ~/.token; echo >> rules.yaml; echo >> kept; true"
    ran = capsule.run("sh", "-c", script, options=capsule.policy(policy))
    assert (ran.code, ran.out) == (0, ""), ran.err
    found = {Path(denial["target"]).name: denial for denial in ran.report["denials"]}
    for name, text in ((".token", 'secrets: ["~/.token"]'), ("rules.yaml", 'rules: ["./rules.yaml"]')):
        assert found[name]["rule"]["text"] == text, found[name]
        assert found[name]["rule"]["line"] in (10, 8), found[name]
        assert found[name]["allow"] is None, found[name]
    control = found["kept"]
    assert control["rule"]["text"] == 'protect: ["./kept"]'
    assert "take" in control["allow"]
