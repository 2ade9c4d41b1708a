"""`capsule run` with hosts, the daemon it really starts, and servers outside: from the program to the wire."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.native.egress_outside import Installation, Outside
from tests.native.egress_site import CURL, Site, tell, until
from tests.native.running import Capsule

pytestmark = [
    pytest.mark.needs("userns", "landlock", "seccomp-notify", "egress", "curl"),
    pytest.mark.timeout(120),
]

NAMES = ("a.example", "b.example", "api.anthropic.com")
RING = """
import json, pathlib
import keyring.backend, keyring.errors

class Ring(keyring.backend.KeyringBackend):
    priority = 9
    path = pathlib.Path(__file__).with_name("ring.json")

    def get_password(self, service, user):
        return json.loads(self.path.read_text()).get(f"{service}/{user}")

    def set_password(self, service, user, password):
        raise keyring.errors.PasswordSetError(service)
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with Outside(tmp_path_factory.mktemp("outside"), *NAMES) as found:
        yield found


@pytest.fixture(scope="module")
def lasting() -> Iterator[Installation]:
    """One daemon for the tests that do not end it."""
    found = Installation()
    yield found
    found.close()


@pytest.fixture
def site(
    capsule_binary: Path, workspace: Path, lasting: Installation, outside: Outside, monkeypatch: Any
) -> Site:
    monkeypatch.setenv("XDG_STATE_HOME", str(lasting.state))
    return Site(Capsule(capsule_binary, workspace), lasting, outside)


@pytest.fixture
def own(
    capsule_binary: Path, workspace: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """With a daemon of its own, which leaves after two idle seconds."""
    installation = Installation()
    monkeypatch.setenv("XDG_STATE_HOME", str(installation.state))
    monkeypatch.setenv("CAPSULE_EGRESS_IDLE", "2")
    yield Site(Capsule(capsule_binary, workspace), installation, outside)
    installation.close()


def test_ipv4_addresses_alone_are_found_as_the_host_has_one(site: Site) -> None:
    asked = (
        "import socket; print(socket.getaddrinfo('a.example', 443, socket.AF_INET, socket.SOCK_STREAM, 0,"
        " socket.AI_ADDRCONFIG)[0][4][0])"
    )
    script = f'getent ahostsv4 a.example && /usr/bin/python3 -c "{asked}"'
    ran = site.run(script, site.outside.network("a.example"))
    assert ran.code == 0, ran.err
    assert {line.split()[0] for line in ran.out.splitlines()} == {"198.18.0.2"}


CONFIGURED = """
import socket, subprocess
def found(flags):
    return sorted({answer[4][0] for answer in socket.getaddrinfo("localhost", 80, socket.AF_INET, 0, 0, flags)})
print(found(0) == found(socket.AI_ADDRCONFIG), "127.0.0.1" in found(socket.AI_ADDRCONFIG))
print(subprocess.run(["getent", "ahostsv4", "localhost"], capture_output=True).returncode)
server = socket.socket()
server.bind(("", 0))
server.listen()
one = socket.create_connection(("127.0.0.1", server.getsockname()[1]), 20)
print(one.getsockname()[0], server.accept()[1][0])
for address in ("198.18.0.1", "198.18.0.9", "203.0.113.7"):
    print(socket.create_connection((address, 8443), 20).getsockname()[0])
"""


def test_a_second_address_is_there_and_sources_are_as_without_it(site: Site) -> None:
    (site.capsule.workspace / "look.py").write_text(CONFIGURED)
    ran = site.run("/usr/bin/python3 look.py", "network: {hosts: [{host: a.example, ports: [8443]}]}")
    assert ran.out.splitlines() == [
        "True True", "0", "127.0.0.1 127.0.0.1", "198.18.0.1", "198.18.0.9", "203.0.113.7",
    ], ran.err  # fmt: skip


@pytest.fixture
def plain_site(own: Site, tmp_path: Path) -> Iterator[tuple[Site, int, list[str]]]:
    """A host whose file of hosts names two of its own, and who answers there over plain HTTP."""
    asked: list[str] = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(str(self.headers["host"]))
            self.send_response(200)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"inner")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
            """The test looks at `asked`."""

    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.1 inner.example shut.example other.example\n")
    outer = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c"]
    outer += ['mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield Site(own.capsule.inside(outer), own.installation, own.outside), server.server_port, asked
        server.shutdown()


def test_names_of_the_hosts_own_file_are_asked_for_like_any_other(
    plain_site: tuple[Site, int, list[str]],
) -> None:
    site, port, asked = plain_site
    names = (
        f"{{host: inner.example, ports: [{port}], private: true}}",
        f"{{host: shut.example, ports: [{port}]}}",
    )
    script = f"""
cat /etc/hosts
{CURL} http://inner.example:{port}/; echo
{CURL} http://shut.example:{port}/; echo
getent hosts other.example || echo nobody
"""
    ran = site.run(script, f"network: {{hosts: [{', '.join(names)}]}}")
    assert asked == [f"inner.example:{port}"], (ran.out, ran.err)
    assert "\ninner\n" in ran.out
    shown = ran.out.partition("\ninner\n")[0]
    assert "localhost" in shown
    assert "example" not in shown
    assert "private: true" in ran.out, "the address counts, whoever names it"
    assert ran.out.endswith("nobody\n")
    refused = [entry for entry in site.of("egress.dns") if entry["decision"]["action"] == "block"]
    assert {entry["dns"]["name"] for entry in refused} == {"other.example"}


def test_a_request_is_inspected_and_recorded(site: Site) -> None:
    network = site.outside.network("{host: a.example, methods: [GET], paths: [/open/*]}")
    ran = site.run(f"{CURL} https://a.example/open/x?q=1; {CURL} https://a.example/closed", network)
    assert ran.out.startswith("hello /open/x?q=1"), ran.err
    assert [(one.method, one.target) for one in site.arrived()] == [("GET", "/open/x?q=1")]
    first, second = site.of("egress.http")
    assert (first["http"]["url"], first["http"]["status"]) == ("https://a.example/open/x?q=1", 200)
    assert first["decision"]["action"] == "allow"
    assert first["program"]["name"] == "curl"
    assert (second["http"]["path"], second["decision"]["action"]) == ("/closed", "block")
    assert first["program"]["argv"][:2] == ["curl", "-sS"]


SECRETS = """
secrets:
  - {name: of-env, from: {env: SECRET_OF_ENV}, to: [a.example], as: header, field: Authorization, env: ONE}
  - {name: of-file, from: {file: %(file)s}, to: [a.example], as: basic, user: me, env: TWO}
  - {name: of-ring, from: {keyring: {service: maps, user: me}}, to: [a.example], as: query, field: key, env: THREE}
  - {name: of-program, from: {command: [/bin/cat, %(program)s]}, to: [a.example], as: body, env: FOUR}
"""


def test_secrets_of_every_source_arrive_and_are_nowhere_else(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Path(os.environ["XDG_CONFIG_HOME"]) / "python_keyring"
    ring.mkdir()
    (ring / "ring_of_files.py").write_text(RING)
    (ring / "ring.json").write_text(json.dumps({"maps/me": "value-of-ring"}))
    (ring / "keyringrc.cfg").write_text(
        f"[backend]\ndefault-keyring=ring_of_files.Ring\nkeyring-path={ring}\n"
    )
    monkeypatch.setenv("SECRET_OF_ENV", "value-of-env")
    (tmp_path / "file").write_text("value-of-file\n")
    (tmp_path / "program").write_text("value-of-program\n")
    policy = site.outside.network("a.example") + SECRETS % {
        "file": tmp_path / "file", "program": tmp_path / "program",
    }  # fmt: skip
    script = f"""
        echo "$ONE $TWO $THREE $FOUR" > seen
        env >> seen
        {CURL} -H "Authorization: Bearer $ONE" https://a.example/env
        {CURL} -u "me:$TWO" https://a.example/file
        {CURL} "https://a.example/ring?key=$THREE"
        {CURL} -H "content-type: application/json" -d "{{\\"token\\": \\"$FOUR\\"}}" https://a.example/program
    """
    ran = site.run(script, policy)
    by_env, by_file, by_ring, by_program = site.arrived()
    assert by_env.headers["authorization"] == "Bearer value-of-env", ran.err
    assert by_file.headers["authorization"] == "Basic bWU6dmFsdWUtb2YtZmlsZQ=="
    assert by_ring.target == "/ring?key=value-of-ring"
    assert json.loads(by_program.body) == {"token": "value-of-program"}
    assert [entry["http"]["secret"] for entry in site.of("egress.http")] == [
        ["of-env"], ["of-file"], ["of-ring"], ["of-program"],
    ]  # fmt: skip
    seen = (site.capsule.workspace / "seen").read_text()
    assert seen.count("capsule-secret-of-") >= 4
    for text in (seen, site.log(), ran.err, ran.out.replace("hello /ring?key=value-of-ring", "")):
        assert "value-of-" not in text
        assert "bWU6dmFsdWUtb2YtZmlsZQ" not in text


def test_a_token_that_expires_is_asked_for_again(site: Site, tmp_path: Path) -> None:
    program, count = tmp_path / "token", tmp_path / "count"
    program.write_text(f"#!/bin/sh\necho x >> {count}\nprintf 'token-%s' $(wc -l < {count})\n")
    program.chmod(0o755)
    policy = site.outside.network("a.example") + (
        f"secrets: [{{name: t, from: {{command: [{program}], expires: 2s}}, to: [a.example], as: header, "
        "field: Authorization, env: T}]\n"
    )
    ask = f'{CURL} -H "Authorization: $T" https://a.example/'
    ran = site.run(f"{ask}; {ask}; sleep 2.5; {ask}", policy)
    sent = [request.headers["authorization"] for request in site.arrived()]
    assert len(sent) == 3, ran.err
    assert int(sent[0].removeprefix("token-")) < int(sent[2].removeprefix("token-")) <= 3, sent
    assert "token-" not in site.log()


ELSEWHERE = {
    "other host": f'{CURL} -H "Authorization: $T" https://b.example/',
    "path": f"{CURL} https://a.example/$T",
    "query": f"{CURL} 'https://a.example/?x='$T",
    "other header": f'{CURL} -H "X-Other: $T" https://a.example/',
    "body": f"{CURL} -d k=$T https://a.example/",
    "base64": f"{CURL} -d $(printf %s $T | base64 -w0) https://b.example/",
    "no TLS": f'{CURL} -H "Authorization: $T" http://a.example/',
}


def test_a_placeholder_elsewhere_is_blocked_and_recorded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_ENV", "value-of-env")
    policy = site.outside.network("a.example", "b.example") + (
        "secrets: [{name: t, from: {env: SECRET_OF_ENV}, to: [a.example], as: header, field: Authorization, env: T}]\n"
    )
    script = "\n".join(ELSEWHERE.values()) + f'\n{CURL} -H "Authorization: $T" https://a.example/control\n'
    ran = site.run(script, policy)
    # The head before a streamed body may have gone; nothing of what is secret, nor what stands for it, is in it.
    assert not any("capsule-secret" in repr(one) for one in site.arrived())
    (arrived,) = [one for one in site.arrived() if "authorization" in one.headers]
    assert (arrived.target, arrived.headers["authorization"]) == ("/control", "value-of-env"), ran.err
    blocked = [entry for entry in site.of("egress.http") if entry["decision"]["action"] == "block"]
    assert len(blocked) == len(ELSEWHERE)
    assert {entry["decision"]["by"] for entry in blocked} == {"secret"}


CALL = f"""{CURL} -H 'content-type: application/json' -d '{{"model": "claude-3-5-haiku-20241022", "max_tokens": 100, \
"messages": [{{"role": "user", "content": "hi"}}]}}' https://api.anthropic.com/v1/messages\n"""
BUDGETS = {
    "requests: 2": (f"{CURL} https://a.example/\n" * 4, 2),
    "bytes: 64KiB": (f"{CURL} -o out https://a.example/bytes/40000\n" * 4, 2),
    "tokens: 1000": (CALL * 4, 2),
    'dollars: "0.0012"': (CALL * 4, 2),
}


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_budget_stops_the_next_call(site: Site, budget: str) -> None:
    script, reached = BUDGETS[budget]
    network = site.outside.network("a.example", "api.anthropic.com", more=f"  budget: {{{budget}}}\n")
    site.run(script, network)
    assert len(site.arrived()) == reached
    blocked = [entry for entry in site.of("egress.http") if entry["decision"]["action"] == "block"]
    assert blocked
    assert {entry["decision"]["by"] for entry in blocked} == {"budget"}
    assert "left of" in blocked[0]["decision"]["reason"]


ASKING = """version: 1
rules:
  - {id: uploads, on: http, when: http.method == "PUT", action: ask, ask_timeout: %s, reason: uploads}
"""


def test_an_ask_is_answered_from_outside_or_times_out(site: Site) -> None:
    rules = site.capsule.workspace / "rules.yaml"
    policy = site.outside.network("a.example") + "rules: [./rules.yaml]\n"
    rules.write_text(ASKING % "60s")
    script = f"{CURL} -w ' %{{http_code}}' -X PUT https://a.example/one"
    running = site.start(script, policy)
    (ask,) = until(lambda: json.loads(tell("asks", "--json").stdout or '{"asks": []}')["asks"])
    assert site.arrived() == []
    answered = tell("answer", ask["id"], "allow")
    assert answered.returncode == 0, answered.stderr
    out, err = running.communicate(timeout=30)
    assert out == "hello /one 200", err
    rules.write_text(ASKING % "1s")
    began = time.monotonic()
    ran = site.run(script, policy)
    assert time.monotonic() - began < 15
    assert ran.out.endswith("403")
    assert len(site.arrived()) == 1
    assert [entry["answer"]["allowed"] for entry in site.of("egress.answer")] == [True, False]


RELOAD = "version: 1\nrules:\n  - {id: x, on: http, when: http.path == %s, action: block}\n"


def test_a_changed_rule_is_in_force_at_once(site: Site) -> None:
    """The next request after the change is on the log is decided by it; how long that takes is in the benchmarks."""
    rules = site.capsule.workspace / "rules.yaml"
    rules.write_text(RELOAD % '"/never"')
    script = f"for i in $(seq 400); do {CURL} -o /dev/null -w '%{{http_code}}\\n' https://a.example/x; done"
    running = site.start(script, site.outside.network("a.example") + "rules: [./rules.yaml]\n")
    until(lambda: len(site.arrived()) > 3)
    aside = rules.with_name("aside")
    aside.write_text(RELOAD % '"/x"')
    aside.replace(rules)
    changed = time.monotonic()
    last = len(site.arrived())
    while time.monotonic() - changed < 1.0:
        time.sleep(0.01)
    settled = len(site.arrived())
    time.sleep(0.5)
    assert len(site.arrived()) == settled, "a second after the change nothing passes"
    assert settled - last < 20
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=30)
    assert "403" in out


def test_when_egress_is_killed_the_run_fails_closed_and_the_next_one_works(own: Site) -> None:
    script = f"""
        {CURL} https://a.example/before; touch ready
        until [ -e killed ]; do sleep 0.05; done
        {CURL} https://a.example/after; echo " exit $?"
    """
    policy = own.outside.network("a.example")
    running = own.start(script, policy)
    until((own.capsule.workspace / "ready").exists)
    first = own.installation.interpreter()
    os.kill(first, signal.SIGKILL)
    until(lambda: own.of("egress.lost"))
    (own.capsule.workspace / "killed").touch()
    out, err = running.communicate(timeout=40)
    assert out.startswith("hello /before")
    assert "exit 0" not in out.partition("hello /before")[2]
    assert [request.target for request in own.arrived()] == ["/before"]
    assert own.of("egress.lost")[0]["reason"]
    assert "capsule-egress is lost" in err
    verified = own.capsule.tell([str(own.capsule.binary), "verify", "capsule.log"])
    assert verified.returncode == 0, verified.stdout
    ran = own.run(f"{CURL} https://a.example/again", policy)
    assert ran.out == "hello /again", ran.err
    assert own.installation.interpreter() != first


def test_egress_leaves_when_idle_and_is_started_again(own: Site) -> None:
    policy = own.outside.network("a.example")
    for turn in range(2):
        assert own.run(f"{CURL} https://a.example/{turn}", policy).out == f"hello /{turn}"
        assert own.installation.serving()
        assert own.installation.gone(15), "it is still there 15 s after the last run"


def test_two_runs_share_neither_secrets_nor_authorities(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_ENV", "value-of-env")
    policy = site.outside.network("a.example") + (
        "secrets: [{name: t, from: {env: SECRET_OF_ENV}, to: [a.example], as: header, field: Authorization, env: T}]\n"
    )
    look = (
        "import socket, ssl; c = ssl.create_default_context(); "
        "s = c.wrap_socket(socket.create_connection(('a.example', 443)), server_hostname='a.example'); "
        "print(dict(x[0] for x in s.getpeercert()['issuer']), s.getpeercert()['serialNumber'])"
    )
    first = site.start(
        f'printf %s "$T" > one; python3 -c "{look}" > one.issuer; touch ready; '
        "until [ -e over ]; do sleep 0.05; done",
        policy,
    )
    until((site.capsule.workspace / "ready").exists)
    second = site.run(
        f'python3 -c "{look}" > two.issuer; {CURL} -H "Authorization: $(cat one)" https://a.example/theirs; '
        f'{CURL} -H "Authorization: $T" https://a.example/ours',
        policy,
    )
    (site.capsule.workspace / "over").touch()
    _, err = first.communicate(timeout=30)
    assert first.returncode == 0, err
    sent = {request.target: request.headers["authorization"] for request in site.arrived()}
    assert sent["/ours"] == "value-of-env", second.err
    assert sent.get("/theirs") != "value-of-env"
    one, two = ((site.capsule.workspace / f"{name}.issuer").read_text() for name in ("one", "two"))
    assert one
    assert two
    assert one != two, "each run's certificates are signed by an authority of its own"


def test_a_name_that_is_refused_says_who_asked(site: Site) -> None:
    """By a connected socket (the C library's resolver), by one that is not, and in a `sendmsg` that nobody sees."""
    policy = site.outside.network("a.example")
    ask = (
        "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20); "
        "question = lambda name: b'\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\5' + name + b'\\7example\\0\\0\\1\\0\\1'; "
        # It asks again and lives on: who asks unseen is looked for meanwhile, and told from then on.
        "[(%s, s.recv(512), time.sleep(0.4)) for _ in range(%d)]"
    )
    loose = ask % ("s.sendto(question(b'loose'), ('198.18.0.1', 53))", 1)
    unseen = ask % ("s.sendmsg([question(b'quiet')], [], 0, ('192.0.2.53', 53))", 12)
    ran = site.run(f'{CURL} http://evil.example/; python3 -c "{loose}"; python3 -c "{unseen}"; true', policy)
    assert ran.code == 0, ran.err
    entries = sorted(site.of("egress.dns"), key=lambda entry: "program" in entry)
    found = {entry["dns"]["name"]: entry for entry in entries}
    assert found["evil.example"]["decision"]["action"] == "block"
    assert found["evil.example"]["program"]["name"] == "curl"
    assert found["evil.example"]["program"]["argv"][-1] == "http://evil.example/"
    for name in ("loose", "quiet"):
        program = found[f"{name}.example"]["program"]
        assert program["name"].startswith("python3"), found
        assert name in program["argv"][-1]


def test_authorities_of_a_policy_are_trusted_inside_by_its_own_runs_alone(site: Site, tmp_path: Path) -> None:
    """A host that is passed through shows its own certificate; the attack: another run has that authority too."""
    passed = site.outside.network("{host: b.example, inspect: never}")
    look = "cat /run/capsule/bundle.pem /run/capsule/ca.pem /etc/ssl/certs/ca-certificates.crt"
    pem = Path(site.outside.authority).read_text().strip()
    mine = site.run(f"{CURL} https://b.example/mine; {look}", passed)
    assert mine.out.startswith("hello /mine"), mine.err
    assert mine.out.count(pem) >= 2, "the positive control: it is there"
    bare = passed.replace(f"  authorities: [{site.outside.authority}]\n", "")
    other = site.run(f"{CURL} https://b.example/other; {look}", bare)
    assert "BEGIN CERTIFICATE" in other.out
    assert pem not in other.out, "an authority of one policy got into the run of another"
    assert "/other" not in [request.target for request in site.arrived()]
    again = site.run(f"{CURL} https://b.example/again", passed)
    assert again.out.startswith("hello /again"), again.err
    none = tmp_path / "none.pem"
    none.write_text("nothing\n")
    refused = site.run("true", passed.replace(str(site.outside.authority), str(none)))
    assert refused.code == 125
    assert f": network.authorities: {none} holds no certificate" in refused.exit["reason"]
    assert re.match(r"/[^:]+\.yaml:[0-9]+:[0-9]+: ", refused.exit["reason"]), "and where it is named"
