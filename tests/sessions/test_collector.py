from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from capsule.errors import UsageError
from capsule.sessions.collector import Collector, CollectorError


class Listening(HTTPServer):
    """A collector that keeps what it got, and answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Answering)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listening

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        status, headers, answer = self.server.answers.pop(0) if self.server.answers else (200, {}, b"{}")
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Listening]:
    with Listening() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_it_is_handed_over(collector: Listening) -> None:
    with Collector(f"{collector.endpoint}/base/", {"Authorization": "Bearer x"}) as sending:
        sending.send("traces", {"resourceSpans": []})
        sending.send("logs", {"resourceLogs": []})
        assert sending.rejected == 0
    (path, headers, body), (second, _, _) = collector.got
    assert (path, second) == ("/base/v1/traces", "/base/v1/logs")
    assert (headers["Content-Type"], headers["Authorization"]) == ("application/json", "Bearer x")
    assert json.loads(body) == {"resourceSpans": []}


def test_what_it_did_not_take_is_counted(collector: Listening) -> None:
    collector.answers = [
        (200, {}, b'{"partialSuccess":{"rejectedSpans":"3"}}'),
        (200, {}, b"no json"),
        (200, {}, b"[]"),
    ]
    with Collector(collector.endpoint, {}) as sending:
        for _ in range(3):
            sending.send("traces", {})
        assert sending.rejected == 3


def test_a_busy_one_is_asked_again(collector: Listening) -> None:
    collector.answers = [(503, {"Retry-After": "0"}, b""), (429, {}, b"")]
    with Collector(collector.endpoint, {}) as sending:
        sending.send("traces", {})
    assert len(collector.got) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 500])
def test_a_refusal_is_said(collector: Listening, status: int) -> None:
    collector.answers = [(status, {"Location": "http://127.0.0.1:1/"}, b"\x1b[2Jgo away")]
    with (
        Collector(collector.endpoint, {}) as sending,
        pytest.raises(CollectorError, match=f"answers {status} to traces"),
    ):
        sending.send("traces", {})
    assert len(collector.got) == 1, "neither tried again nor followed elsewhere"


def test_one_that_is_not_there_is_said() -> None:
    with (
        Collector("http://127.0.0.1:1", {}) as sending,
        pytest.raises(CollectorError, match="cannot be reached"),
    ):
        sending.send("traces", {})


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:4318", "ftp://x", "http://", "http://x:99999999", "http://x/?a=1"]
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(UsageError, match="no endpoint"):
        Collector(endpoint, {})
