"""What does it cost to have every request inspected, decided and recorded, and how fast are large transfers and names?

Peers in the same run: the server without anything between, and the proxies of `benchmarks.proxies` (stock mitmproxy,
Squid with ssl-bump, sandbox-runtime's). Egress has 20 rules, a secret and its records on. Requests are timed by h2load
against nginx over TLS; large transfers are one GiB by curl. Part of a second at each connection's first request is the
program's name that nobody tells here; the medians do not see it.

Run: ``python -m benchmarks.egress [--requests N]``
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from OpenSSL import SSL

from benchmarks.measure import NotWorkingError, Row, save, summarise, table, version
from benchmarks.proxies import SERVER, all_peers, need
from tests.egress.certificates import make
from tests.egress.supervisor import Daemon, Run, Stage, host, plan, processor_seconds

NAME, PORT = "a.example", SERVER
GIB = 1 << 30
ROUNDS = 4
RULES = "version: 1\nrules:\n" + "".join(
    f'  - {{id: r{n}, on: http, when: \'http.path == "/never/{n}" && http.method == "PUT"\', action: block}}\n'
    for n in range(20)
)
PLACEHOLDER = "capsule-secret-token-" + "0" * 32
DNS_CLIENT = """
import socket, sys, time
count = int(sys.argv[1])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("198.18.0.1", 53))
tail = b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\1a\\7example\\0\\0\\1\\0\\1"
sent = got = 0
start = time.perf_counter()
while got < count:
    while sent < count and sent - got < 64:
        sock.send(sent.to_bytes(4, "big")[2:] + tail)
        sent += 1
    sock.recv(512)
    got += 1
print(got / (time.perf_counter() - start))
"""


@contextlib.contextmanager
def server(directory: Path) -> Iterator[bytes]:
    """nginx over TLS; gives the authority of its certificate."""
    authority = make("the internet")
    certificate, key = make(NAME, authority, names=(NAME, "127.0.0.1", "localhost")).write(directory, "leaf")
    authority.write(directory, "outside")
    (directory / "www").mkdir()
    (directory / "www/small").write_bytes(b"x" * 64)
    with (directory / "www/large").open("wb") as file:
        file.truncate(GIB)
    (directory / "nginx.conf").write_text(
        f"worker_processes 1; pid {directory}/pid; error_log {directory}/error.log; daemon off;\n"
        + ("user root;\n" if os.geteuid() == 0 else "")
        + "events { worker_connections 4096; }\n"
        "http { access_log off; keepalive_requests 100000000; ssl_protocols TLSv1.3;\n"
        f"server {{ listen 127.0.0.1:{PORT} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key};\n"
        f"root {directory}/www; }} }}\n"
    )
    with subprocess.Popen([need("nginx"), "-c", str(directory / "nginx.conf")]) as process:
        time.sleep(0.5)
        try:
            yield authority.pem
        finally:
            process.terminate()


def loaded(log: Path, requests: int, clients: int, url: str, port: int | None = None) -> list[str]:
    """h2load's command line; `port` is of the peer that stands before the URL's server."""
    words = [need("h2load"), "--h1", "-n", str(requests), "-c", str(clients), f"--log-file={log}"]
    return [*words, *([] if port is None else [f"--connect-to=127.0.0.1:{port}"]), url]


def times(log: Path, requests: int) -> list[float]:
    """Milliseconds of each request. Raises NotWorkingError when one failed."""
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    log.unlink()
    good = [int(row[2]) / 1000 for row in rows if row[1] == "200"]
    if len(good) != requests:
        raise NotWorkingError(f"{requests - len(good)} of {requests} requests failed")
    return good


def megabytes(argv: list[str], stage: Stage | None = None) -> float:
    """MB/s of one download by curl."""
    argv = [*argv, "-sS", "-o", "/dev/null", "-w", "%{speed_download} %{size_download}"]
    out = (
        stage.run(*argv, timeout=120).out
        if stage
        else subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    )
    speed, size = out.split()
    if int(size) != GIB:
        raise NotWorkingError(f"{size} bytes came of {GIB}")
    return float(speed) / 1e6


def floor(directory: Path) -> int:
    """MB/s of one core that take TLS off and put it on again and do nothing else, in the pieces that egress moves."""
    ours, theirs = SSL.Context(SSL.TLS_SERVER_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
    ours.use_certificate_chain_file(str(directory / "leaf.pem"))
    ours.use_privatekey_file(str(directory / "leaf.key"))

    def ends() -> tuple[SSL.Connection, SSL.Connection]:
        client, answering = SSL.Connection(theirs), SSL.Connection(ours)
        client.set_connect_state()
        answering.set_accept_state()
        for one, other in (client, answering), (answering, client), (client, answering), (answering, client):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                while True:
                    other.bio_write(one.bio_read(1 << 20))
        return client, answering

    (inward, upstream), (_, outward) = ends(), ends()
    piece, turns, spent = bytes(1 << 18), 1000, 0.0
    for _ in range(turns):
        upstream.sendall(piece)
        coded = upstream.bio_read(1 << 20)
        start = time.process_time()
        inward.bio_write(coded)
        left = len(piece)
        while left:
            plain = inward.recv(1 << 14)
            outward.sendall(plain)
            left -= len(plain)
        outward.bio_read(1 << 20)
        spent += time.process_time() - start
    return round(turns * len(piece) / 1e6 / spent)


def transfers(
    daemon: Daemon, stage: Stage, directory: Path, session: Callable[[str, str], Run]
) -> dict[str, object]:
    """Large transfers inspected and passed through, and names."""
    curl, facts = need("curl"), dict[str, object]()
    run = session("large", "always")
    trust = ["--cacert", str(directory / "authority.pem")]
    before = daemon.spent()
    inspected = [megabytes([curl, "--http1.1", *trust, f"https://{NAME}/large"], stage) for _ in range(3)]
    facts["1 GiB inspected, MB/s"] = [round(value) for value in inspected]
    facts["1 GiB inspected, MB/s of one core"] = round(3 * GIB / 1e6 / (daemon.spent() - before))
    facts["TLS off and on again and nothing else, MB/s of one core"] = floor(directory)
    facts["1 GiB inspected over HTTP/2, MB/s"] = round(
        megabytes([curl, *trust, f"https://{NAME}/large"], stage)
    )
    out = stage.run(sys.executable, "-c", DNS_CLIENT, "20000").out
    facts["names, answers/s"] = round(float(out))
    run.close()
    run = session("passed", "never")
    trust = ["--cacert", str(directory / "outside.pem")]
    direct = [megabytes([curl, "--http1.1", *trust, f"https://127.0.0.1:{PORT}/large"]) for _ in range(3)]
    passed = [megabytes([curl, "--http1.1", *trust, f"https://{NAME}/large"], stage) for _ in range(3)]
    facts["1 GiB direct, MB/s"] = [round(value) for value in direct]
    facts["1 GiB passed through, MB/s"] = [round(value) for value in passed]
    facts["passed through, part of direct"] = round(max(passed) / max(direct), 2)
    facts["memory at the end, MB"] = daemon.memory() // 1_000_000
    run.close()
    return facts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--requests-only", action="store_true", help="no large transfers, no names")
    given = parser.parse_args()
    requests = given.requests
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        pem = stack.enter_context(server(directory))
        peers = stack.enter_context(all_peers(directory))
        daemon, stage = Daemon(directory), Stage(443)
        stack.callback(daemon.close)
        stack.callback(stage.close)
        secret = {"name": "token", "from": {"kind": "env"}, "to": [NAME], "as": "header", "field": "authorization",
                  "user": None, "env": "T", "origin": None}  # fmt: skip
        options = {
            "upstreams": [{"host": NAME, "address": f"127.0.0.1:{PORT}", "origin": None}],
            "authorities": [{"path": "/outside.pem"}], "rules": [{"path": "/rules.yaml"}], "secrets": [secret],
        }  # fmt: skip
        sources = [{"path": "/outside.pem", "text": pem.decode()}, {"path": "/rules.yaml", "text": RULES}]
        values = {"token": {"value": "v" * 20, "placeholder": PLACEHOLDER, "expires": None}}

        def session(name: str, inspect: str) -> Run:
            entry = host(NAME, 443, inspect=inspect)
            return Run(
                daemon, stage, plan(entry, **options), sources=sources, secrets=values, name=name
            ).open()

        run = session("inspected", "always")
        sections: dict[str, list[Row]] = {}
        facts: dict[str, object] = {}
        log = directory / "h2load.log"
        for clients, count in ((64, requests // ROUNDS), (1, requests // 8 // ROUNDS)):
            measured: dict[str, list[float]] = {}
            ways: list[tuple[str, int | None, int | None]] = [("direct", None, None)]
            ways += [(name, peer.port, peer.pid) for name, peer in peers.items()]
            ways += [("capsule-egress", None, daemon.process.pid)]
            walls, works = (
                dict.fromkeys((way[0] for way in ways), 0.0),
                dict.fromkeys((way[0] for way in ways), 0.0),
            )
            for turn in range(ROUNDS):
                # Each begins a round in its turn, so that what else the machine does falls on all alike.
                for name, port, pid in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
                    inside = name == "capsule-egress"
                    url = f"https://{NAME}/small" if inside else f"https://localhost:{PORT}/small"
                    before, start = processor_seconds(pid) if pid else 0.0, time.perf_counter()
                    argv = loaded(log, count, clients, url, port)
                    if inside:
                        stage.run(*argv, timeout=300)
                    else:
                        subprocess.run(argv, capture_output=True, check=True)
                    walls[name] += time.perf_counter() - start
                    works[name] += processor_seconds(pid) - before if pid else 0.0
                    measured.setdefault(name, []).extend(times(log, count))
            for name, _, pid in ways:
                facts[f"{name}, {clients} connections, requests/s"] = round(ROUNDS * count / walls[name])
                if pid:
                    work = works[name] / ROUNDS / count
                    facts[f"{name}, {clients} connections, processor µs a request"] = round(work * 1e6)
            sections[f"HTTPS requests, {clients} connections"] = summarise(measured, "capsule-egress")
        facts["memory after requests, MB"] = daemon.memory() // 1_000_000
        run.close()
        if not given.requests_only:
            facts |= transfers(daemon, stage, directory, session)
    facts["versions"] = {
        "h2load": version([need("h2load"), "--version"]),
        **{
            name: version([need(name), "--version"])
            for name in ("mitmdump", "squid")
            if any(name in peer.lower() for peer in peers)
        },
    }
    for title, rows in sections.items():
        print(f"{title}\n{table(rows)}\n")
    for key, value in facts.items():
        print(f"{key}: {value}")
    question, more = (
        ("egress_peers", f" --requests {requests} --requests-only") if given.requests_only else ("egress", "")
    )
    save(question, f"python -m benchmarks.egress{more}", sections, **facts)


if __name__ == "__main__":
    main()
