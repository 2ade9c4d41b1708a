"""Does one `capsule-egress` stay as it is under mixed load while many runs start and end: memory, descriptors, threads?

Eight sandboxes side by side. In each, one run after the other lasts a few seconds: kept and new connections, small and
large answers, uploads, questions for names that are and are not listed, refused paths, a secret put in. Ten times all
runs end and nothing happens for a while: what egress holds then does not depend on what runs do at that moment, and
whether it grows is judged by it. Refused: a result with a failed request. Tasks are not counted: nothing outside the
process sees them; connections that stay do show as descriptors.

What a stall is made of is measured: how long the client, egress and the server had no processor although they could
have run, how late the loops of egress and of the server turned, and what kept them. What is left is ours. The verdict
calls that a stall which would have been one with a processor for everybody.

Run: ``python -m benchmarks.soak_egress [--seconds N]``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import NotWorkingError, save
from benchmarks.turns import soaked
from benchmarks.turns.sitecustomize import COUNT, beat
from capsule.egress.leftovers import EVERY
from tests.egress.certificates import make
from tests.egress.supervisor import Daemon, Run, Stage, host, plan
from tests.egress.upstream import Upstream

PROGRAMS = 8
RESTS = 10
"""Times that the load stops."""
PAUSE = EVERY + 3.0
"""Seconds of each rest: egress clears away what runs left within so long."""
NAME = "a.example"
PLACEHOLDER = "capsule-secret-token-" + "0" * 32
RULES = """version: 1
rules:
  - {id: refused, on: http, when: 'http.path == "/refused"', action: block}
"""
CLIENT = """
import http.client, json, os, socket, ssl, sys, time
until, slow, count, failed = time.monotonic() + float(sys.argv[1]), [], 0, []
schedule = os.open("/proc/self/schedstat", os.O_RDONLY)
waited = lambda: int(os.pread(schedule, 80, 0).split()[1]) / 1e9
context = ssl.create_default_context(cafile=os.environ["CA"])
def once(connection, method, path, body, expected, size):
    global count
    start, before = time.monotonic(), waited()
    try:
        connection.request(method, path, body, {"Authorization": os.environ["TOKEN"]})
        answer = connection.getresponse()
        length = len(answer.read())
    except (OSError, http.client.HTTPException) as error:
        failed.append(f"{method} {path}: {error!r}")
        return False
    if answer.status != expected or (size is not None and length != size):
        failed.append(f"{method} {path}: {answer.status}, {length} bytes")
    count += 1
    slow.append((time.monotonic() - start, start, method + " " + path, waited() - before))
    slow[:] = sorted(slow)[-20:]
    return True
def lost(name):
    try:
        socket.getaddrinfo(name, 443)
        failed.append(name + " resolves")
    except socket.gaierror:
        pass
turn, connection = 0, None
while time.monotonic() < until:
    if connection is None or turn % 25 == 0:
        if connection is not None:
            connection.close()
        connection = http.client.HTTPSConnection("a.example", context=context, timeout=30)
    good = once(connection, "GET", "/small", None, 200, None)
    if turn % 10 == 1:
        good = good and once(connection, "POST", "/size", bytes(300000), 200, 6)
    if turn % 40 == 2:
        good = good and once(connection, "GET", "/bytes/4000000", None, 200, 4000000)
    if turn % 20 == 3:
        good = good and once(connection, "GET", "/refused", None, 403, None)
        connection.close()
        connection = None
    if turn % 15 == 4:
        lost("hidden%d.example" % turn)
    if not good:
        connection = None
    turn += 1
    time.sleep(0.005)
print(json.dumps({"count": count, "failed": failed[:5], "slow": slow}))
"""


@dataclass(frozen=True)
class Sample:
    """The daemon at one moment."""

    at: float
    memory: int
    descriptors: int
    threads: int
    files: int
    waited: float


@dataclass
class Soak:
    """What a soak came to."""

    samples: list[Sample] = field(default_factory=list)
    rests: list[Sample] = field(default_factory=list)
    """At the end of each rest."""
    runs: int = 0
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    slow: list[soaked.Slow] = field(default_factory=list)
    ours: list[soaked.Turn] = field(default_factory=list)
    theirs: list[soaked.Turn] = field(default_factory=list)
    blocks: list[tuple[float, int]] = field(default_factory=list)
    start: float = 0.0
    before: Sample | None = None
    after: Sample | None = None


def look(daemon: Daemon, start: float) -> Sample:
    """The daemon now: resident bytes, open descriptors, threads, files open without a name, and how long it waited."""
    place = Path(f"/proc/{daemon.process.pid}")
    descriptors = _links(place / "fd")
    threads = len(list((place / "task").iterdir()))
    unnamed = sum(text.endswith(" (deleted)") for text in descriptors)
    # The second number: nanoseconds in which it was ready and another process had the processor (sched-stats.rst).
    waited = int((place / "schedstat").read_text().split()[1]) / 1e9
    return Sample(time.monotonic() - start, daemon.memory(), len(descriptors), threads, unnamed, waited)


def _links(folder: Path) -> list[str]:
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            found.append(str(path.readlink()))
    return found


def soak(directory: Path, seconds: float, programs: int = PROGRAMS) -> Soak:
    """Load one daemon for so many seconds."""
    outside = make("the internet")
    upstream = Upstream(make(NAME, outside, names=(NAME,)).write(directory, "leaf"), ("http/1.1",))
    with _watched(directory / "turns"):
        daemon = Daemon(directory, idle=60)
    found, lock = Soak(), threading.Lock()
    upstream.loop.call_soon_threadsafe(beat, upstream.loop, lambda told: soaked.take(told, found.theirs))
    stages = [Stage(443) for _ in range(programs)]
    secret = {"name": "token", "from": {"kind": "env"}, "to": [NAME], "as": "header", "field": "authorization",
              "user": None, "env": "T", "origin": None}  # fmt: skip
    network = plan(
        host(NAME, 443),
        upstreams=[{"host": NAME, "address": upstream.address, "origin": None}],
        authorities=[{"path": "/outside.pem"}], rules=[{"path": "/rules.yaml"}], secrets=[secret],
    )  # fmt: skip
    sources = [{"path": "/outside.pem", "text": outside.pem.decode()}, {"path": "/rules.yaml", "text": RULES}]
    values = {"token": {"value": "v" * 20, "placeholder": PLACEHOLDER, "expires": None}}
    environment = {"CA": str(directory / "authority.pem"), "TOKEN": PLACEHOLDER}

    orders = [random.Random(number) for number in range(programs)]
    turns = [0] * programs

    def slot(number: int, until: float) -> None:
        order = orders[number]
        while (left := until - time.monotonic()) > 1:
            turns[number] += 1
            turn = turns[number]
            lasts = min(left, order.uniform(2, 6))
            try:
                run = Run(
                    daemon, stages[number], network, sources=sources, secrets=values, name=f"{number}-{turn}"
                )
                run.open()
                assert run.ready["problems"] == [], run.ready
                done = stages[number].run(
                    sys.executable, "-c", CLIENT, f"{lasts:.1f}", env=environment, timeout=lasts + 60
                )
                run.close()
                told = json.loads(done.out)
            except (AssertionError, OSError, ValueError) as error:
                with lock:
                    found.failed.append(f"run {number}-{turn}: {error!r}"[:500])
                return
            with lock:
                found.runs += 1
                found.requests += told["count"]
                found.failed += told["failed"]
                found.slow += [soaked.Slow(*one) for one in told["slow"]]

    try:
        first = Run(daemon, stages[0], network, sources=sources, secrets=values, name="first").open()
        first.close()
        time.sleep(0.5)
        found.start = start = time.monotonic()
        found.before = look(daemon, start)
        for _ in range(RESTS):
            until = time.monotonic() + seconds / RESTS
            slots = [threading.Thread(target=slot, args=(number, until)) for number in range(programs)]
            for one in slots:
                one.start()
            while any(one.is_alive() for one in slots):
                time.sleep(0.5)
                found.samples.append(look(daemon, start))
            time.sleep(PAUSE)
            found.rests.append(look(daemon, start))
            print(
                f"at rest after {found.rests[-1].at:.0f} s: {found.rests[-1].memory / 1e6:.1f} MB", flush=True
            )
        until = time.monotonic() + 10
        while (
            after := look(daemon, start)
        ).descriptors > found.before.descriptors and time.monotonic() < until:
            time.sleep(0.2)
        found.after = after
    finally:
        daemon.close()
        for stage in stages:
            stage.close()
        upstream.close()
    for line in (directory / "turns").read_text().splitlines():
        soaked.take(json.loads(line), found.ours, found.blocks)
    return found


@contextlib.contextmanager
def _watched(path: Path) -> Iterator[None]:
    """What is started within tells of the turns of its loop there."""
    path.touch()
    kept = dict(os.environ)
    here = str(Path(__file__).parent / "turns")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, kept.get("PYTHONPATH"))))
    os.environ["TURNS"] = str(path)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def rows(samples: Sequence[Sample], count: int = 10) -> list[str]:
    """A table of the daemon over time."""
    lines = [f"{'second':>8}{'memory MB':>12}{'descriptors':>14}{'threads':>10}{'unnamed files':>16}"]
    step = max(1, len(samples) // count)
    lines += [
        f"{s.at:>8.0f}{s.memory / 1e6:>12.1f}{s.descriptors:>14}{s.threads:>10}{s.files:>16}"
        for s in samples[step - 1 :: step]
    ]
    return lines


def _at_rest(rest: Sample, at: float) -> bool:
    """Whether `at` lies in the last seconds of a rest, when what runs left has been cleared away."""
    return rest.at - (COUNT + 1) < at <= rest.at


def _fitted(line: soaked.Line) -> str:
    return f"{line.slope * 60:+.2f} (fitted; 95 %: ±{line.error * 60:.2f}) at {line.ends:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        done = soak(Path(folder), seconds)
    if done.failed:
        raise NotWorkingError(f"{len(done.failed)} failed: {done.failed[:3]}")
    assert done.before
    assert done.after
    print("\n".join(rows(done.samples)))
    half = RESTS // 2
    memory = soaked.line([(one.at, one.memory / 1e6) for one in done.rests[half - 1 :]])
    middle = done.rests[half - 1].at
    blocks = soaked.line(
        [
            (at - done.start, count / 1e3)
            for at, count in done.blocks
            if any(_at_rest(one, at - done.start) for one in done.rests) and at - done.start >= middle - 1
        ]
    )
    stalls = soaked.stalls(done.slow, done.ours, done.theirs)
    kept = max((turn.kept for turn in done.ours if turn.what == "beat"), default=0.0)
    facts = {
        "seconds": round(seconds),
        "programs side by side": PROGRAMS,
        "runs": done.runs,
        "requests": done.requests,
        "requests that failed": len(done.failed),
        "slowest request, s": round(max(one.took for one in done.slow), 2),
        "longest that egress itself kept anybody waiting, s": round(soaked.ours(stalls, kept), 2),
        **soaked.described(stalls, done.ours, done.start),
        "egress waited for a processor, part of the time": round(done.samples[-1].waited / seconds, 2),
        "memory at rest, MB": ", ".join(f"{one.memory / 1e6:.1f}" for one in done.rests),
        "memory at rest, the end less the half, MB": round(memory.ends - memory.begins, 1),
        "memory at rest over the second half, MB a minute": _fitted(memory),
        "blocks that Python holds at rest over the second half, thousands a minute": _fitted(blocks),
        "memory at most, MB": round(max(sample.memory for sample in done.samples) / 1e6),
        "descriptors before and after": f"{done.before.descriptors}, {done.after.descriptors}",
        "threads before and after": f"{done.before.threads}, {done.after.threads}",
        "verdict": soaked.verdict(len(done.failed), stalls, kept, memory),
        "over time": {line.split()[0] + " s": " ".join(line.split()[1:]) for line in rows(done.samples)[1:]},
    }
    for key, value in facts.items():
        print(f"{key}: {value}")
    save("soak_egress", f"python -m benchmarks.soak_egress --seconds {seconds:.0f}", {}, **facts)


if __name__ == "__main__":
    main()
