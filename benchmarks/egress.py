"""What does it cost to have every request inspected, decided and recorded, and how fast are large transfers and names?

Peers in the same run: the server without anything between, and stock mitmproxy (`mitmdump`, no add-ons) as a reverse
proxy. Egress has 20 rules, a secret and its records on. Requests are timed by h2load against nginx over TLS; large
transfers are one GiB by curl. Part of a second at each connection's first request is the program's name that nobody
tells here; the medians do not see it.

Run: ``python -m benchmarks.egress [--requests N]``
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import NotWorkingError, Row, save, summarise, table, version
from tests.egress.certificates import make
from tests.egress.supervisor import Daemon, Run, Stage, host, plan

NAME, PORT, PROXY = "a.example", 18443, 18099
GIB = 1 << 30
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


def need(program: str) -> str:
    """Where a program is. Raises NotWorkingError when it is absent."""
    beside = Path(sys.executable).parent / program
    found = (
        str(beside) if beside.exists() else shutil.which(program) or shutil.which(program, path="/usr/sbin")
    )
    if found is None:
        raise NotWorkingError(f"{program} is absent; Debian has it in nginx-light, nghttp2-client, curl")
    return found


@contextlib.contextmanager
def server(directory: Path) -> Iterator[bytes]:
    """nginx over TLS; gives the authority of its certificate."""
    authority = make("the internet")
    certificate, key = make(NAME, authority, names=(NAME, "127.0.0.1")).write(directory, "leaf")
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


@contextlib.contextmanager
def mitmdump(directory: Path) -> Iterator[int]:
    """Stock mitmproxy before the same server; gives its process id."""
    argv = [need("mitmdump"), "-q", "--mode", f"reverse:https://127.0.0.1:{PORT}", "-p", str(PROXY)]
    argv += [
        "--set",
        f"confdir={directory}/mitmproxy",
        "--set",
        f"ssl_verify_upstream_trusted_ca={directory}/outside.pem",
    ]
    with subprocess.Popen(argv) as process:
        time.sleep(4)
        try:
            yield process.pid
        finally:
            process.terminate()


def loaded(log: Path, requests: int, clients: int, url: str) -> list[str]:
    """h2load's command line."""
    return [need("h2load"), "--h1", "-n", str(requests), "-c", str(clients), f"--log-file={log}", url]


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


def cpu(pid: int) -> float:
    """Processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    requests = parser.parse_args().requests
    curl = need("curl")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        pem = stack.enter_context(server(directory))
        peer = stack.enter_context(mitmdump(directory))
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
        for clients, count in ((64, requests), (1, requests // 8)):
            measured: dict[str, list[float]] = {}
            for name, url, inside in (
                ("direct", f"https://127.0.0.1:{PORT}/small", False),
                ("mitmdump", f"https://127.0.0.1:{PROXY}/small", False),
                ("capsule-egress", f"https://{NAME}/small", True),
            ):
                pid = {"mitmdump": peer, "capsule-egress": daemon.process.pid}.get(name)
                before, start = cpu(pid) if pid else 0.0, time.perf_counter()
                argv = loaded(log, count, clients, url)
                if inside:
                    stage.run(*argv, timeout=300)
                else:
                    subprocess.run(argv, capture_output=True, check=True)
                wall = time.perf_counter() - start
                measured[name] = times(log, count)
                facts[f"{name}, {clients} connections, requests/s"] = round(count / wall)
                if pid:
                    facts[f"{name}, {clients} connections, processor µs a request"] = round(
                        (cpu(pid) - before) / count * 1e6
                    )
            sections[f"HTTPS requests, {clients} connections"] = summarise(measured, "capsule-egress")
        facts["memory after requests, MB"] = daemon.memory() // 1_000_000
        trust = ["--cacert", str(directory / "authority.pem")]
        before = cpu(daemon.process.pid)
        inspected = [megabytes([curl, "--http1.1", *trust, f"https://{NAME}/large"], stage) for _ in range(3)]
        facts["1 GiB inspected, MB/s"] = [round(value) for value in inspected]
        facts["1 GiB inspected, MB/s of one core"] = round(3 * GIB / 1e6 / (cpu(daemon.process.pid) - before))
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
    facts["versions"] = {
        "h2load": version([need("h2load"), "--version"]),
        "mitmdump": version([need("mitmdump"), "--version"]),
    }
    for title, rows in sections.items():
        print(f"{title}\n{table(rows)}\n")
    for key, value in facts.items():
        print(f"{key}: {value}")
    save("egress", "python -m benchmarks.egress", sections, **facts)


if __name__ == "__main__":
    main()
