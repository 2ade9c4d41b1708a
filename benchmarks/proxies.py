"""The peers of egress: proxies that end TLS too, each before the same server, reached as any HTTPS server is.

`mitmdump` stands before it itself. Squid (ssl-bump) and sandbox-runtime's proxy (`tlsTerminate`) want a CONNECT, which
no load generator sends: socat does, one process a connection, and a row without a proxy shows what that costs. What is
absent is named, with what brings it, and left out.

    with all_peers(directory) as peers: peers["mitmdump"].port
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import NotWorkingError
from benchmarks.peers import CACHE
from tests.egress.certificates import make

SERVER, MITMDUMP, SQUID, TUNNELS = 18443, 18099, 18100, 18101
CERTGEN = Path("/usr/lib/squid/security_file_certgen")
SRT = CACHE / "node_modules/@anthropic-ai/sandbox-runtime/dist/index.js"
SRT_SCRIPT = """
import { SandboxManager } from '%s';
const network = { allowedDomains: ['localhost'], deniedDomains: [], tlsTerminate: {} };
await SandboxManager.initialize({ network, filesystem: { denyRead: [], allowWrite: [], denyWrite: [] } });
console.log(SandboxManager.getProxyPort(), SandboxManager.getProxyAuthToken());
"""


@dataclass(frozen=True)
class Peer:
    """Where it listens, and the process that works (None: the time of its children is not counted)."""

    port: int
    pid: int | None


def need(program: str) -> str:
    """Where a program is. Raises NotWorkingError when it is absent."""
    beside = Path(sys.executable).parent / program
    found = (
        str(beside) if beside.exists() else shutil.which(program) or shutil.which(program, path="/usr/sbin")
    )
    if found is None:
        raise NotWorkingError(
            f"{program} is absent; Debian has it in nginx-light, nghttp2-client, curl, socat"
        )
    return found


def _listens(port: int, process: subprocess.Popen[str]) -> None:
    """Until it does. Raises NotWorkingError when it ended, or takes long."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise NotWorkingError(f"{process.args!r} does not listen on {port}")


@contextlib.contextmanager
def _started(argv: list[str], port: int, **more: str) -> Iterator[int]:
    with subprocess.Popen(argv, env={**os.environ, **more}, text=True) as process:
        try:
            _listens(port, process)
            yield process.pid
        finally:
            process.terminate()


@contextlib.contextmanager
def mitmdump(directory: Path) -> Iterator[Peer]:
    """Stock mitmproxy, no add-ons."""
    argv = [need("mitmdump"), "-q", "--mode", f"reverse:https://127.0.0.1:{SERVER}", "-p", str(MITMDUMP)]
    argv += ["--set", f"confdir={directory}/mitmproxy"]
    argv += ["--set", f"ssl_verify_upstream_trusted_ca={directory}/outside.pem"]
    with _started(argv, MITMDUMP) as pid:
        yield Peer(MITMDUMP, pid)


@contextlib.contextmanager
def tunnel(port: int, how: str) -> Iterator[Peer]:
    """socat on `port`; what it does with a connection is `how`."""
    listening = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=128"
    with _started([need("socat"), listening, how], port):
        yield Peer(port, None)


@contextlib.contextmanager
def squid(directory: Path) -> Iterator[Peer]:
    """Squid with ssl-bump, and nothing cached or logged."""
    program, own = need("squid"), directory / "squid"
    if not CERTGEN.exists():
        raise NotWorkingError("squid is without ssl-bump; Debian has it in squid-openssl")
    own.mkdir()
    certificate, key = make("the authority of squid").write(own, "authority")
    subprocess.run([CERTGEN, "-c", "-s", own / "certificates", "-M", "4MB"], check=True, capture_output=True)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "proxy:", own], check=True)
    (own / "conf").write_text(
        f"http_port 127.0.0.1:{SQUID} ssl-bump tls-cert={certificate} tls-key={key} "
        "generate-host-certificates=on dynamic_cert_mem_cache_size=4MB\n"
        f"sslcrtd_program {CERTGEN} -s {own}/certificates -M 4MB\n"
        "acl first at_step SslBump1\nssl_bump peek first\nssl_bump bump all\n"
        f"tls_outgoing_options cafile={directory}/outside.pem\n"
        f"http_access allow all\ncache deny all\naccess_log none\ncache_log {own}/log\n"
        f"pid_filename none\ncoredump_dir {own}\nshutdown_lifetime 0 seconds\nworkers 1\n"
    )
    with (
        _started([program, "-N", "-f", str(own / "conf")], SQUID) as pid,
        tunnel(TUNNELS, f"PROXY:127.0.0.1:localhost:{SERVER},proxyport={SQUID},nodelay") as through,
    ):
        yield Peer(through.port, pid)


@contextlib.contextmanager
def srt(directory: Path) -> Iterator[Peer]:
    """The proxy of sandbox-runtime, which ends TLS."""
    node = need("node")
    if not SRT.exists():
        raise NotWorkingError("sandbox-runtime is absent; `python -m benchmarks.launch --install` brings it")
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(directory / "outside.pem")}
    argv = [node, "--input-type=module", "-e", SRT_SCRIPT % SRT]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline().split()
            if len(told) != 2:
                raise NotWorkingError("sandbox-runtime's proxy does not start")
            how = f"PROXY:127.0.0.1:localhost:{SERVER},proxyport={told[0]},proxyauth=srt:{told[1]},nodelay"
            with tunnel(TUNNELS + 1, how) as through:
                yield Peer(through.port, process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def socat(_: Path) -> Iterator[Peer]:
    """No proxy behind the tunnel."""
    with tunnel(TUNNELS + 2, f"TCP:127.0.0.1:{SERVER},nodelay") as through:
        yield through


ALL: dict[str, Callable[[Path], contextlib.AbstractContextManager[Peer]]] = {
    "mitmdump": mitmdump,
    "Squid, ssl-bump (by socat)": squid,
    "sandbox-runtime's proxy (by socat)": srt,
    "no proxy (by socat)": socat,
}


@contextlib.contextmanager
def all_peers(directory: Path) -> Iterator[dict[str, Peer]]:
    """Those that are here, started; the others are named on standard error."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name, make_peer in ALL.items():
            try:
                found[name] = stack.enter_context(make_peer(directory))
            except NotWorkingError as error:
                print(f"left out: {name}: {error}", file=sys.stderr)
        yield found
