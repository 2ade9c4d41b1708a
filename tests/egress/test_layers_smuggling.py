"""The smuggling corpus through the really started daemon, judged by the bytes that arrive outside.

Whatever a program sends: servers of different habits must read the same requests on every connection, these must be
the ones that were recorded as allowed, and each must be what a careful reader expects.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.egress.certificates import Pair, make
from tests.egress.smuggling import answers, http1, http2
from tests.egress.smuggling.case import Http1, Http2
from tests.egress.smuggling.reading import faults, readings
from tests.egress.smuggling.server import RawServer
from tests.egress.supervisor import host

pytestmark = pytest.mark.needs("userns", "unshare")
PROGRAM = Path(__file__).parent / "smuggling/program.py"


class Outcome:
    """What became of every case: what came back, and by case what arrived outside and what was recorded."""

    def __init__(
        self, back: dict[str, str], outside: dict[str, list[bytes]], recorded: dict[str, list[Any]]
    ) -> None:
        self.back = back
        self.outside = outside
        self.recorded = recorded


def run(
    session: Callable[..., Any], server: RawServer, port: int, cases: list[tuple[str, dict[str, Any]]]
) -> Outcome:
    """One session, one program, a host name a case."""
    names = {name: f"c{number}.w.example" for number, (name, _) in enumerate(cases)}
    inside = session(
        host("*.w.example", port),
        upstreams=[{"host": name, "address": server.address, "origin": None} for name in names.values()],
    )
    filled = []
    for name, fields in cases:
        text = json.dumps(fields).replace("%H", names[name]).replace("%P", f"/{names[name]}")
        filled.append({**json.loads(text), "host": names[name]})
    environment = {"CA": str(inside.ca), "PYTHONPATH": ":".join(sys.path)}
    done = inside.stage.run(
        sys.executable, str(PROGRAM), given=json.dumps(filled), timeout=100, env=environment
    )
    assert done.code == 0, done.err
    back = dict(zip(names, json.loads(done.out), strict=True))
    time.sleep(0.3)  # what is on its way arrives
    outside: dict[str, list[bytes]] = {name: [] for name in names}
    for kept in server.connections:
        owners = {name for name, given in names.items() if given.encode() in kept}
        assert len(owners) <= 1, f"one connection for two hosts: {bytes(kept)!r}"
        for name in owners:
            outside[name].append(bytes(kept))
    recorded: dict[str, list[Any]] = {name: [] for name in names}
    for entry in inside.run.records("egress.http"):
        for name, given in names.items():
            if entry["http"].get("sni") == given or entry["http"].get("host") == given:
                recorded[name].append(entry)
    server.connections.clear()
    return Outcome(back, outside, recorded)


@pytest.fixture(scope="module")
def pair(outside: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make("w.example", outside, names=("*.w.example",)).write(tmp_path_factory.mktemp("raw"), "leaf")


@pytest.fixture
def server() -> Iterator[RawServer]:
    found = RawServer(None, {case.name: case.sent for case in answers.CASES})
    yield found
    found.close()


@pytest.fixture
def secure(pair: tuple[Path, Path]) -> Iterator[RawServer]:
    found = RawServer(pair, {})
    yield found
    found.close()


def carried(case: Http1 | Http2, prefix: str) -> list[str]:
    """The paths that may arrive outside."""
    return [
        path.replace("%P", prefix) if "%P" in path or path == "*" else prefix + path for path in case.carried
    ]


def judge(outcome: Outcome, cases: Sequence[Http1 | Http2]) -> list[str]:
    """What is wrong with what became of the cases; one line each."""
    wrong = []
    for number, case in enumerate(cases):
        prefix, name = f"/c{number}.w.example", case.name
        seen: list[str] = []
        for kept in outcome.outside[name]:
            found = readings(kept)
            if len(found) != 1:
                wrong.append(f"{name}: servers disagree about {kept!r}: {found}")
                continue
            seen += [path for _, path in next(iter(found))]
            wrong += [f"{name}: {fault}" for fault in faults(kept, f"c{number}.w.example")]
        allowed = Counter(
            entry["http"]["path"]
            for entry in outcome.recorded[name]
            if entry["decision"]["action"] == "allow"
        )
        paths = Counter(path.partition("?")[0] for path in seen)
        if paths - allowed:
            wrong.append(f"{name}: {paths - allowed} went out and is not recorded as allowed")
        if seen != carried(case, prefix):
            wrong.append(f"{name}: {seen} went out, not {case.carried}; answered {outcome.back[name][:90]!r}")
        if not case.carried and re.search(r"HTTP/1\.1 200|status 200", outcome.back[name]):
            wrong.append(f"{name}: answered {outcome.back[name][:90]!r}")
    return wrong


def test_the_readers_disagree_about_what_the_cases_say_they_do() -> None:
    """The positive control: passed on as they are, the ambiguous ones are two things, or are no request at all."""
    for case in http1.CASES:
        sent = case.sent.replace(b"%H", b"h.example").replace(b"%P", b"/p")
        suspicious = len(readings(sent)) > 1 or bool(faults(sent, "h.example"))
        assert suspicious or not case.ambiguous, case.name
        if case.carried and not case.ambiguous:
            found = readings(sent)
            assert {tuple(path.replace("http://h.example", "") for _, path in seen) for seen in found} == {
                tuple(carried(case, "/p"))
            }, case.name


def test_http1(session: Any, server: RawServer) -> None:
    outcome = run(
        session, server, 80, [(case.name, {"sent": case.sent.decode("latin-1")}) for case in http1.CASES]
    )
    assert not (wrong := judge(outcome, http1.CASES)), "\n".join(wrong)


def latin(fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def test_http2_toward_http1(session: Any, secure: RawServer) -> None:
    cases = [
        (
            case.name,
            {
                "streams": [
                    [latin(headers), body.decode("latin-1"), latin(trailers)]
                    for headers, body, trailers in case.streams
                ]
            },
        )
        for case in http2.CASES
    ]
    assert not (wrong := judge(run(session, secure, 443, cases), http2.CASES)), "\n".join(wrong)


def test_answers(session: Any, server: RawServer) -> None:
    cases = [
        (case.name, {"sent": f"GET /answer/{case.name} HTTP/1.1\r\nHost: %H\r\n\r\n"})
        for case in answers.CASES
    ]
    outcome = run(session, server, 80, cases)
    wrong = []
    for case in answers.CASES:
        back = outcome.back[case.name].encode("latin-1")
        whole = back.endswith((b"<silence>", b"0\r\n\r\n"))  # else it was cut: the program sees a failure
        if b"smuggled" in back or len(re.findall(rb"HTTP/1\.1 \d{3} ", back)) > 1:
            wrong.append(f"{case.name}: more than one answer {back!r}")
        elif case.body is not None and case.body not in back:
            wrong.append(f"{case.name}: not {case.body!r} {back!r}")
        elif case.body is None and back.startswith(b"HTTP/1.1 200") and whole:
            wrong.append(f"{case.name}: taken for an answer {back!r}")
    assert not wrong, "\n".join(wrong)
