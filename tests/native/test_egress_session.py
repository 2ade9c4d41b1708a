"""`capsule run` and hosts: what arrives where egress listens, what is refused and recorded, what a program sees."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pty
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.native.egress_peer import Peer, answer_names
from tests.native.running import Capsule, Ran

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]

PYTHON = "/usr/bin/python3"
HOSTS = "network: {hosts: [{host: a.example, ports: [8443, 8080]}]}"


class Site:
    """A workspace, and who answers at the session socket."""

    def __init__(self, capsule: Capsule, state: Path, peer: Peer) -> None:
        self.capsule, self.state, self.peer = capsule, state, peer

    def run(self, script: str, policy: str = HOSTS, **more: Any) -> Ran:
        options = self.capsule.policy(policy)
        return self.capsule.run(PYTHON, "-c", script, "marker", options=options, **more)

    def entries(self) -> list[dict[str, Any]]:
        text = (self.capsule.workspace / "capsule.log").read_text()
        return [entry for line in text.splitlines() if "seq" in (entry := json.loads(line))]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries() if entry["type"] == kind]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of state whose name is short enough for a socket's."""
    path = Path(tempfile.mkdtemp(prefix="cs-", dir="/var/tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def site(capsule_binary: Path, workspace: Path, state: Path) -> Iterator[Site]:
    with Peer(state) as peer:
        peer.start()
        yield Site(Capsule(capsule_binary, workspace), state, peer)


@pytest.fixture
def beside() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool


CONNECT = """
import socket, sys
s = socket.socket()
if {wait}: s.settimeout(20)
s.connect(("203.0.113.7", 8443))
s.sendall(b"hello")
print(s.recv(100).decode(), s.getsockname()[1])
"""


@pytest.mark.parametrize("wait", [False, True], ids=["blocking", "nonblocking"])
def test_a_connection_arrives_with_its_target_and_its_program(
    site: Site, wait: bool, beside: concurrent.futures.ThreadPoolExecutor
) -> None:
    def listen() -> tuple[tuple[str, int], tuple[str, int], bytes]:
        site.peer.wait("session")
        connection, source = site.peer.sockets[2 + site.peer.session["ports"].index(8443)].accept()
        with connection:
            data = connection.recv(100)
            connection.sendall(b"welcome")
            return connection.getsockname(), source, data

    heard = beside.submit(listen)
    ran = site.run(CONNECT.format(wait=wait))
    assert (ran.code, ran.out.split()[0]) == (0, "welcome"), ran.err
    target, source, data = heard.result()
    assert (target, data) == (("203.0.113.7", 8443), b"hello")
    flow = site.peer.wait("flow")
    assert flow["target"] == "203.0.113.7:8443"
    assert flow["source"] == f"{source[0]}:{source[1]}"
    assert flow["source"].endswith(f":{ran.out.split()[1]}")
    assert flow["program"] == os.path.realpath(PYTHON)
    assert flow["argv"][0] == PYTHON
    assert flow["argv"][-1] == "marker"
    session = site.peer.session
    assert (session["version"], session["ports"]) == (1, [8080, 8443])
    assert session["run"] == ran.report["run"]
    assert session["policy"]["name"] == "test"
    assert session["egress"]["hosts"][0]["host"] == "a.example"
    assert site.peer.over.wait(10), "the session ends with the run"
    with pytest.raises(OSError, match="Bad file descriptor"):
        site.peer.sockets[2].getsockname()


def test_names_are_asked_at_any_address_and_the_answer_leaves_from_it(
    site: Site, beside: concurrent.futures.ThreadPoolExecutor
) -> None:
    script = """
import socket
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.settimeout(20)
a.connect(("192.0.2.53", 53))
a.send(b"one")
print(a.recv(100).decode())
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.settimeout(20)
b.sendto(b"two", ("198.18.0.1", 53))
data, source = b.recvfrom(100)
print(data.decode(), source[0])
"""

    def resolve() -> list[tuple[bytes, str]]:
        site.peer.wait("session")
        return [answer_names(site.peer.sockets[0]) for _ in range(2)]

    asked = beside.submit(resolve)
    ran = site.run(script)
    assert ran.out == "re: one\nre: two 198.18.0.1\n", ran.err
    assert asked.result() == [(b"one", "192.0.2.53"), (b"two", "198.18.0.1")]
    told = [frame for frame in site.peer.frames if frame["type"] == "flow"]
    assert [flow["target"] for flow in told] == ["192.0.2.53:53", "198.18.0.1:53"], (
        "who asks for names is told"
    )
    assert {flow["program"] for flow in told} == {os.path.realpath(PYTHON)}
    assert told[1]["source"].startswith("0.0.0.0:"), "a socket that is not connected is known by its port"


REFUSED = """
import errno, socket
def tried(what, attempt):
    try:
        attempt()
        print(what, "passed")
    except OSError as error:
        print(what, errno.errorcode[error.errno])
def connect(family, kind, to):
    return lambda: socket.socket(family, kind).connect(to)
inet, inet6, stream, datagram = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
tried("port", connect(inet, stream, ("203.0.113.7", 22)))
tried("fake", connect(inet, stream, ("198.18.0.9", 22)))
tried("v6", connect(inet6, stream, ("2001:db8::1", 8443)))
tried("mapped", connect(inet6, stream, ("::ffff:203.0.113.7", 22)))
tried("udp", lambda: socket.socket(inet, datagram).sendto(b"x", ("203.0.113.7", 443)))
tried("udp6", lambda: socket.socket(inet6, datagram).sendto(b"x", ("2001:db8::1", 53)))
tried("raw", lambda: socket.socket(inet, socket.SOCK_RAW, socket.IPPROTO_ICMP))
tried("mptcp", lambda: socket.socket(inet, stream, 262))
tried("fastopen", lambda: socket.socket().sendto(b"x", 0x20000000, ("203.0.113.7", 8443)))
tried("fastopen-message", lambda: socket.socket().sendmsg([b"x"], [], 0x20000000, ("203.0.113.7", 8443)))
def later():
    s = socket.socket()
    s.setsockopt(6, 30, 1)  # TCP_FASTOPEN_CONNECT
tried("fastopen-connect", later)
def quic():
    s = socket.socket(inet, datagram)
    s.settimeout(5)
    s.connect(("203.0.113.7", 8443))
    s.send(b"x")
    s.recv(10)
tried("quic", quic)
def own():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", 8443))
    s.listen()
tried("own", own)
"""


def test_everything_else_is_refused_and_most_of_it_recorded(site: Site) -> None:
    ran = site.run(REFUSED)
    seen = dict(line.split() for line in ran.out.splitlines())
    assert seen == {
        "port": "EACCES", "fake": "EACCES", "v6": "EACCES", "mapped": "EACCES", "udp": "EACCES",
        "udp6": "EACCES", "raw": "EPERM", "mptcp": "EPERM", "fastopen": "ENOTSUP",
        "fastopen-message": "ENOTSUP", "fastopen-connect": "ENOTSUP", "quic": "ECONNREFUSED",
        "own": "EADDRINUSE",
    }, ran.err  # fmt: skip
    denied = {entry["target"]: entry for entry in site.of("denied")}
    for target in (
        "tcp:203.0.113.7:22", "tcp:198.18.0.9:22", "tcp:[2001:db8::1]:8443", "udp:203.0.113.7:443",
        "udp:[2001:db8::1]:53",
    ):  # fmt: skip
        assert denied[target]["program"] == os.path.realpath(PYTHON), target
        assert denied[target]["layer"] == "network"
    assert denied["tcp:203.0.113.7:22"]["allow"] == "network: hosts: [{host: 203.0.113.7, ports: [22]}]"
    assert denied["tcp:198.18.0.9:22"]["allow"] == "network: hosts: [{host: …, ports: [22]}]"
    assert not any(frame["type"] == "flow" for frame in site.peer.frames)


DATAGRAMS = """
import socket, time
inet, datagram = socket.AF_INET, socket.SOCK_DGRAM
quic = socket.socket(inet, datagram)
quic.connect(("203.0.113.7", 8443))
for _ in range(3):
    try: quic.send(b"initial")
    except ConnectionRefusedError: pass
message = socket.socket(inet, datagram)
message.sendmsg([b"x"], [], 0, ("203.0.113.8", 500))
asked = socket.socket(inet, datagram)
asked.connect(("203.0.113.9", 443))  # as resolvers do, to compare addresses
names = socket.socket(inet, datagram)
names.connect(("192.0.2.53", 53))
names.send(b"a question")
own = socket.socket(inet, datagram)
own.bind(("127.0.0.1", 0))
near = socket.socket(inet, datagram)
near.connect(own.getsockname())
near.send(b"hello")
print(own.recv(10))
time.sleep(0.3)
"""


def test_datagrams_that_no_call_names_are_recorded_with_their_program(site: Site) -> None:
    """Over a connected socket (QUIC), and in a `sendmsg` with an address; not names, loopback, or a mere `connect`."""
    ran = site.run(DATAGRAMS)
    assert ran.out == "b'hello'\n", ran.err
    denied = {entry["target"]: entry for entry in site.of("denied")}
    assert set(denied) == {"udp:203.0.113.7:8443", "udp:203.0.113.8:500"}
    for entry in denied.values():
        assert entry["program"] == os.path.realpath(PYTHON)
        assert (entry["operation"], entry["layer"], entry["errno"]) == ("send", "network", "ECONNREFUSED")
    # The second of the three was not sent: it was told what had become of the first.
    counts = [entry["count"] for entry in site.of("denied") if entry["target"] == "udp:203.0.113.7:8443"]
    assert sum(counts) == 2


def test_a_flood_of_datagrams_does_not_hold_up_the_run(site: Site) -> None:
    script = """
import os, socket, time
for n in range(2000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendmsg([b"x" * 1000], [], 0, ("203.0.113.7", 1000 + n % 50))
began = time.monotonic()
for _ in range(200):
    os.stat("/usr")
    open("f", "w").close()
print(time.monotonic() - began < 30)
"""
    ran = site.run(script)
    assert ran.out == "True\n", ran.err
    assert {entry["target"] for entry in site.of("denied")} >= {"udp:203.0.113.7:1000"}


def test_a_program_sees_our_authority_and_our_resolver(site: Site) -> None:
    script = """
import json, os, ssl
read = lambda path: open(path).read()
context = ssl.create_default_context()
print(json.dumps({
    "resolv": read("/etc/resolv.conf"), "ca": read("/run/capsule/ca.pem"),
    "bundle": read("/run/capsule/bundle.pem"), "env": dict(os.environ),
    "files": sorted(os.listdir("/run/capsule")),
    "trusted": any("capsule" in str(c["subject"]).lower() for c in context.get_ca_certs()),
}))
try:
    open("/run/capsule/ca.pem", "w")
except OSError as error:
    print(error.strerror)
"""
    policy = f"{HOSTS}\nenv: {{set: {{PIP_CERT: /mine, GREETING: hello}}}}"
    ran = site.run(script, policy)
    seen = json.loads(ran.out.splitlines()[0])
    assert "nameserver 198.18.0.1" in seen["resolv"]
    assert seen["files"] == ["bundle.pem", "ca.pem", "resolv.conf", "truststore.p12"]
    assert seen["bundle"].rstrip().endswith(seen["ca"].rstrip())
    assert seen["trusted"]
    assert ran.out.splitlines()[1] in {"Permission denied", "Read-only file system"}
    env = seen["env"]
    for name in (
        "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO",
        "AWS_CA_BUNDLE", "NIX_SSL_CERT_FILE",
    ):  # fmt: skip
        assert env[name] == "/run/capsule/bundle.pem", name
    assert env["NODE_EXTRA_CA_CERTS"] == env["DENO_CERT"] == "/run/capsule/ca.pem"
    assert (env["PIP_CERT"], env["GREETING"]) == ("/mine", "hello")
    assert "/run/capsule/truststore.p12" in env["JAVA_TOOL_OPTIONS"]
    key = site.state / "capsule/egress/authority.key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_the_systems_bundle_is_covered(site: Site) -> None:
    place = Path("/etc/ssl/certs/ca-certificates.crt")
    if not place.exists():
        pytest.skip("this distribution keeps its bundle elsewhere")
    ran = site.run(f"print(open({str(place)!r}).read() == open('/run/capsule/bundle.pem').read())")
    assert ran.out == "True\n", ran.err


SECRETS = """
network: {hosts: [a.example]}
secrets:
  - {name: one, from: {file: %s}, to: [a.example], as: header, field: Authorization, env: ONE_TOKEN}
  - {name: two, from: {command: [/bin/sh, -c, %s]}, to: [a.example], as: body, env: TWO_TOKEN}
"""


def test_the_sandbox_holds_placeholders_and_the_log_no_value(site: Site, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("value-of-the-file\n")
    policy = SECRETS % (tmp_path / "token", "echo value-of-the-program")
    script = "import os; print(os.environ['ONE_TOKEN'], os.environ['TWO_TOKEN'])"
    options = site.capsule.policy(policy)
    site_run = site.capsule.run(
        PYTHON, "-c", f"{script}\n# value-of-the-file value-of-the-program", options=options
    )
    one, two = site_run.out.split()
    assert re.fullmatch(r"capsule-secret-one-[0-9a-f]{32}", one)
    assert re.fullmatch(r"capsule-secret-two-[0-9a-f]{32}", two)
    held = site.peer.session["secrets"]
    assert held["one"] == {"value": "value-of-the-file", "placeholder": one, "expires": None}
    assert held["two"]["value"] == "value-of-the-program"
    text = (site.capsule.workspace / "capsule.log").read_text()
    assert "value-of-the" not in text
    assert "[redacted:secret:" in text


def test_a_secret_that_cannot_be_had_refuses_the_run_and_is_named(site: Site, tmp_path: Path) -> None:
    marker = site.capsule.workspace / "ran"
    policy = SECRETS % (tmp_path / "nothing", "echo x")
    ran = site.run(f"open({str(marker)!r}, 'w')", policy)
    assert ran.code == 125
    assert "the secret `one` cannot be had" in ran.exit["reason"]
    policy = SECRETS % ("/etc/hostname", "echo hidden-value; exit 7")
    ran = site.run(f"open({str(marker)!r}, 'w')", policy)
    assert ran.code == 125
    assert "the secret `two` cannot be had" in ran.exit["reason"]
    assert "hidden-value" not in ran.err + json.dumps(ran.report)
    assert not marker.exists()


def test_entries_go_on_the_log_in_order_and_only_those_of_egress(
    site: Site, beside: concurrent.futures.ThreadPoolExecutor
) -> None:
    def speak() -> None:
        site.peer.wait("session")
        site.peer.record("egress.dns", dns={"name": "a.example", "entropy": 2.5, "odd~name": "\x1b[2J"})
        site.peer.record("egress.http", http={"method": "GET", "url": "http://a.example/?k=" + "x" * 5000})
        time.sleep(0.3)
        site.peer.record("run.ended", exit={"code": 0})

    spoken = beside.submit(speak)
    ran = site.run("import time; time.sleep(1.5); print('goes on')")
    spoken.result()
    assert ran.out == "goes on\n"
    dns, http = site.of("egress.dns")[0], site.of("egress.http")[0]
    assert dns["seq"] < http["seq"]
    assert dns["run"] == ran.report["run"]
    assert dns["dns"]["entropy"] == "2.5"
    assert dns["dns"]["odd_name"]
    lost = site.of("egress.lost")
    assert len(lost) == 1
    assert "type is not one of egress" in lost[0]["reason"]
    assert len(site.of("run.ended")) == 1


def test_when_egress_dies_nothing_is_reached_and_it_is_on_the_log(
    site: Site, beside: concurrent.futures.ThreadPoolExecutor
) -> None:
    script = """
import socket, time
def tried():
    s = socket.socket()
    s.settimeout(5)
    try:
        s.connect(("203.0.113.7", 8443))
        return s.recv(10)
    except OSError as error:
        return error.strerror
print(tried())
deadline = time.monotonic() + 20
while (answer := tried()) != "Connection refused" and time.monotonic() < deadline:
    time.sleep(0.02)
print(answer)
"""

    def listen() -> None:
        site.peer.wait("session")
        connection, _ = site.peer.sockets[3].accept()
        connection.sendall(b"hello")
        connection.close()
        site.peer.leave()

    heard = beside.submit(listen)
    ran = site.run(script)
    heard.result()
    assert ran.out == "b'hello'\nConnection refused\n", ran.err
    assert ran.code == 0
    assert site.of("egress.lost")[0]["reason"] == "it ended"
    assert "capsule-egress is lost" in ran.err


RULES = "version: 1\nrules: []\n"


def test_a_changed_rule_file_is_told_at_once_and_its_digest_is_on_the_log(
    site: Site, beside: concurrent.futures.ThreadPoolExecutor
) -> None:
    rules = site.capsule.workspace / "rules.yaml"
    rules.write_text(RULES)

    def change() -> float:
        site.peer.wait("session")
        time.sleep(0.3)
        aside = rules.with_name("aside")
        aside.write_text(RULES + "# changed\n")
        began = time.monotonic()
        aside.replace(rules)
        site.peer.wait("sources")
        return time.monotonic() - began

    took = beside.submit(change)
    ran = site.run("import time; time.sleep(1.5)", f"{HOSTS}\nrules: [./rules.yaml]")
    assert ran.code == 0, ran.err
    assert took.result() < 0.5
    (first,) = site.peer.session["sources"]
    assert first == {"path": str(rules), "text": RULES}
    assert [rule["path"] for rule in site.peer.session["egress"]["rules"]] == [str(rules)]
    told = [frame for frame in site.peer.frames if frame["type"] == "sources"]
    assert told[-1]["sources"] == [{"path": str(rules), "text": RULES + "# changed\n"}]
    started = site.of("run.started")[0]
    assert [source["path"] for source in started["sources"]] == [str(rules)]
    assert started["sources"][0]["digest"].startswith("blake3:")


def test_entries_of_the_run_are_told_where_something_is_detected(site: Site) -> None:
    sigma = site.capsule.workspace / "sigma"
    sigma.mkdir()
    (sigma / "one.yml").write_text("title: x\n")
    ran = site.run("import subprocess; subprocess.run(['/bin/true'])", f"{HOSTS}\ndetect: [./sigma]")
    assert ran.code == 0, ran.err
    assert [named["path"] for named in site.peer.session["egress"]["detect"]] == [str(sigma)]
    assert site.peer.over.wait(10)
    told = [frame["entry"] for frame in site.peer.frames if frame["type"] == "event"]
    on_log = {entry["seq"]: entry for entry in site.entries()}
    execs = [entry for entry in told if entry["type"] == "exec"]
    assert any(entry["argv"] == ["/bin/true"] for entry in execs)
    for entry in execs:
        assert on_log[entry["seq"]] == entry


def test_without_anybody_ready_nothing_runs(capsule_binary: Path, workspace: Path, state: Path) -> None:
    marker = workspace / "ran"
    with Peer(state) as peer:

        def close_twice() -> None:
            for _ in range(2):
                connection, _ = peer._listening.accept()
                connection.recv(1)
                connection.close()

        closing = threading.Thread(target=close_twice)
        closing.start()
        capsule = Capsule(capsule_binary, workspace)
        ran = capsule.run("/usr/bin/touch", str(marker), options=capsule.policy(HOSTS))
        closing.join()
    assert ran.code == 125
    assert not marker.exists()
    assert "capsule-egress hung up before it was ready" in ran.exit["reason"]
    assert str(state / "capsule/egress/egress.log") in ran.exit["reason"]
    assert "needs Python" not in ran.exit["reason"], "it is there"
    assert ran.report["usage"]["wall_ms"] > 0, "nothing ran, and yet somebody waited"


def test_a_directory_that_others_may_write_is_refused(
    capsule_binary: Path, workspace: Path, state: Path
) -> None:
    (state / "capsule/egress").mkdir(parents=True)
    (state / "capsule/egress").chmod(0o777)
    capsule = Capsule(capsule_binary, workspace)
    ran = capsule.run("/bin/true", options=capsule.policy(HOSTS))
    assert ran.code == 125
    assert "mode 0700" in ran.exit["reason"]


def ask(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(("at", "expires", "command"))
    fields |= {"id": "q1", "run": "r-1", "program": "/usr/bin/curl", "argv": ["curl"], "asked_before": []}
    fields |= {"event": {"http": {"method": "PUT", "url": "https://a.example/x"}}}
    fields |= {"rule": {"id": "r", "file": "f", "line": 1, "reason": "uploads are asked about"}}
    return {"type": "ask", **fields, **changes}


@pytest.mark.needs("pty")
def test_a_person_at_the_terminal_is_asked_and_the_command_does_not_see_the_answer(site: Site) -> None:
    options = site.capsule.policy(HOSTS)
    script = "import sys; print('ready', flush=True); print('read', repr(sys.stdin.readline()))"
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(site.capsule.workspace)
        argv = site.capsule.command(PYTHON, "-c", script, options=options)
        os.execv(argv[0], argv)
    seen = b""

    def until(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            seen += os.read(master, 4096)

    until(b"ready")
    site.peer.say(ask())
    until(b"[N]o?")
    assert b"/usr/bin/curl asks for PUT https://a.example/x" in seen
    assert b"rule r (f:1): uploads are asked about" in seen
    assert b"h: this host until the run ends" in seen
    os.write(master, b"h")
    answer = site.peer.wait("answer")
    assert answer == {"type": "answer", "id": "q1", "allow": True, "scope": "host", "for_ms": None}
    os.write(master, b"line\n")
    until(b"read 'line\\n'")
    os.close(master)
    os.waitpid(pid, 0)
    assert site.peer.session["interactive"] is True


def test_without_a_terminal_a_question_is_a_fault(
    site: Site, beside: concurrent.futures.ThreadPoolExecutor
) -> None:
    def speak() -> None:
        site.peer.wait("session")
        site.peer.say(ask())

    spoken = beside.submit(speak)
    ran = site.run("import time; time.sleep(1)")
    spoken.result()
    assert site.peer.session["interactive"] is False
    assert ran.code == 0
    assert "nobody is to be asked" in site.of("egress.lost")[0]["reason"]


OPEN = "network: {mode: open}"


def test_an_open_network_is_the_hosts_and_is_said_to_be(capsule_binary: Path, workspace: Path) -> None:
    capsule = Capsule(capsule_binary, workspace)
    name = f"capsule-test-{os.getpid()}"
    script = f"""
import errno, socket
s = socket.create_connection(("127.0.0.1", {{port}}))
print(s.recv(10))
for attempt in ("connect", "bind"):
    try:
        getattr(socket.socket(socket.AF_UNIX), attempt)("\\0{name}" + ("" if attempt == "connect" else "x"))
        print("passed")
    except OSError as error:
        print(errno.errorcode[error.errno])
try:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        abstract.setblocking(False)
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            connection.sendall(b"outside")
            connection.close()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        ran = capsule.run(PYTHON, "-c", script.format(port=port), options=capsule.policy(OPEN))
        assert ran.out.splitlines() == ["b'outside'", "EACCES", "EACCES", "EPERM"], ran.err
        with pytest.raises(BlockingIOError):
            abstract.accept()
    layers = ran.report["enforced"]["layers"]
    assert (layers["network"], layers["namespaces"]) == ("open", "enforced")
    log = (workspace / "capsule.log").read_text()
    connects = [json.loads(line) for line in log.splitlines() if '"type":"connect"' in line]
    assert [entry["target"] for entry in connects] == [f"tcp:127.0.0.1:{port}"]
    options = capsule.policy(f"{OPEN}\nrequire: [network]")
    ran = capsule.run("/bin/true", options=options)
    assert ran.code == 125
    assert "`network.mode` is `open`" in ran.exit["reason"]
