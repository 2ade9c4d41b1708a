"""Sigma rules over what egress sees and the run's entries: findings on the log, in order of time; broken ones deny."""

from __future__ import annotations

from typing import Any

import pytest

from capsule.egress.frames import FrameError, Source
from capsule.egress.watching import EQUAL, HELD, Watch
from tests.egress.supervisor import host
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

needs = pytest.mark.needs("userns", "unshare", "curl")
SIGMA = """\
title: A request for the secret page
id: 7b1f7a52-9b3e-4a53-9c39-0d8f0a8f6f10
status: test
level: high
logsource:
  category: proxy
detection:
  selection:
    c-uri|contains: /secret
  condition: selection
"""


def detecting(text: str) -> dict[str, Any]:
    return {"detect": [{"path": "/sigma"}], "sources": [{"path": "/sigma/one.yml", "text": text}]}


@needs
def test_a_finding_and_silence(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **detecting(SIGMA))
    assert inside.run.ready["problems"] == []
    assert inside.curl("http://a.example/other").out == "hello /other"
    assert inside.curl("http://a.example/secret").out == "hello /secret", "findings decide nothing"
    finding = inside.run.record("egress.finding")
    assert finding["rule"]["level"] == "high"
    own = inside.run.record("egress.http", path="/secret")
    assert finding["events"] == [own["event"]["id"]]
    assert len(inside.run.records("egress.finding")) == 1


@needs
def test_the_pack_that_comes_along_compiles(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), detect=[{"pack": "agents"}])
    assert inside.run.ready["problems"] == []
    assert inside.curl("http://a.example/x").out == "hello /x"


@needs
@pytest.mark.parametrize("named", [{"pack": "nobodys"}, {"path": "/absent"}, {"path": "/sigma"}])
def test_what_does_not_compile_denies(session: Any, plain: Upstream, named: dict[str, str]) -> None:
    options = {**detecting("title: [broken"), "detect": [named]}
    inside = session(host("a.example", 80), **to(plain), **options)
    assert inside.run.ready["problems"]
    assert inside.curl("http://a.example/x").code == 6


SECRET_THEN_SENT = {"pack": "agents"}


class Time:
    """A clock that is set, and what waits for it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waiting: list[tuple[float, Any]] = []

    def later(self, seconds: float, what: Any) -> None:
        self.waiting.append((self.now + seconds, what))

    def go(self, seconds: float) -> None:
        until = self.now + seconds
        while due := sorted((at for at, _ in self.waiting if at <= until)):
            self.now = due[0]
            ripe = [what for at, what in self.waiting if at <= self.now]
            self.waiting = [(at, what) for at, what in self.waiting if at > self.now]
            for what in ripe:
                what()
        self.now = until


class Watched:
    def __init__(self, *named: dict[str, str], sources: tuple[Source, ...] = ()) -> None:
        self.time = Time()
        self.found: list[dict[str, Any]] = []
        self.watch = Watch(
            named, sources, found=self.found.append, clock=lambda: self.time.now, later=self.time.later
        )

    def ids(self) -> list[str]:
        return [each["rule"]["id"] for each in self.found]


def read(path: str, *, seq: int, second: str) -> dict[str, Any]:
    return {"seq": seq, "run": "r-1", "type": "read", "time": f"2026-01-01T00:00:{second}Z", "mono": 1, "pid": 2,
            "program": "/bin/cat", "operation": "read", "target": path, "from": None}  # fmt: skip


def posted(*, second: str) -> dict[str, Any]:
    event = {"id": "e-1", "type": "http", "time": f"2026-01-01T00:00:{second}Z"}
    http = {"method": "POST", "path": "/x", "host": "a.example"}
    return {"type": "egress.http", "event": event, "http": http, "decision": {"action": "allow"}}


def test_a_read_that_is_told_late_stands_before_the_request() -> None:
    watched = Watched(SECRET_THEN_SENT)
    watched.watch.see(posted(second="01.500000"))
    watched.time.go(0.1)
    watched.watch.entry(read("/w/.env", seq=7, second="01.400000"))
    assert watched.found == []
    watched.time.go(HELD)
    both = next(each for each in watched.found if each["rule"]["id"] == "agents-secret-read-then-sent")
    assert both["events"] == ["r-1/7", "e-1"]


def test_a_read_after_the_request_is_no_reason() -> None:
    watched = Watched(SECRET_THEN_SENT)
    watched.watch.entry(read("/w/.env", seq=7, second="01.600000"))
    watched.watch.see(posted(second="01.500000"))
    watched.watch.conclude()
    assert "agents-secret-read-then-sent" not in watched.ids()


def test_the_same_again_is_counted_and_told_after_a_while() -> None:
    watched = Watched({"pack": "agents"})
    for number in range(40):
        watched.watch.entry(read("/root/.netrc", seq=number, second="01.000000"))
    watched.time.go(HELD + 0.01)
    own = [each for each in watched.found if each["rule"]["id"] == "agents-credential-file-read"]
    assert [each["events"] for each in own] == [["r-1/0"]]
    watched.time.go(EQUAL + HELD)
    own = [each for each in watched.found if each["rule"]["id"] == "agents-credential-file-read"]
    assert (len(own), own[1]["times"], len(own[1]["events"]), own[1]["events"][-1]) == (2, 39, 32, "r-1/39")
    watched.time.go(10)
    watched.watch.conclude()
    assert watched.ids().count("agents-credential-file-read") == 2
    assert watched.time.waiting == [], "nothing turns when nothing happens"


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule.egress.watching.MOST_HELD", 10)
    watched = Watched({"pack": "agents"})
    for number in range(12):
        watched.watch.entry(read("/root/.netrc", seq=number, second="01.000000"))
    assert watched.ids() == ["agents-credential-file-read"]


@pytest.mark.parametrize("change", [{"run": None}, {"seq": "1"}, {"type": 3}, {"time": None}])
def test_what_is_no_entry_of_a_run_ends_the_session(change: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        Watched({"pack": "agents"}).watch.entry(read("/x", seq=1, second="01.0") | change)


@needs
def test_an_entry_of_the_run_is_found_in_a_session(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), detect=[{"pack": "agents"}])
    inside.run.send({"type": "event", "entry": read("/root/.netrc", seq=3, second="01.0")})
    finding = inside.run.record("egress.finding")
    assert (finding["rule"]["id"], finding["events"]) == ("agents-credential-file-read", ["r-1/3"])


@needs
def test_what_was_seen_last_is_told_before_the_end(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), detect=[{"pack": "agents"}])
    inside.run.send({"type": "event", "entry": read("/root/.netrc", seq=3, second="01.0")})
    inside.run.half_close()
    assert inside.run.record("egress.finding")["events"] == ["r-1/3"]
