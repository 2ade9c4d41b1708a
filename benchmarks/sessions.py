"""How fast is the session database filled from a log, compared with it, and asked? End to end, from a real log.

The log is written by `capsule record`, of a mix of entries as runs and egress write them. Target: 50,000 a second
taken in (read, chain followed, rows of every table with their indexes, on the disk).

Run: ``python -m benchmarks.sessions [--entries N] [--rounds N]``
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import NotWorkingError, save, summarise, table

CAPSULE = Path(sysconfig.get_path("scripts")) / "capsule"
A_RUN = 5000
QUERIES = {
    "one session's events": "SELECT count(*) FROM events WHERE run = 'r-0000000000000007'",
    "requests by host": "SELECT host, count(*), sum(bytes_in) FROM http GROUP BY host",
    "a field of JSON, all rows": "SELECT count(*) FROM events WHERE json_extract(event, '$.http.status') = 200",
    "an expression, all rows": "SELECT count(*) FROM events WHERE event REGEXP 'id_ed25519'",
}


def entries(count: int) -> Iterator[dict[str, Any]]:
    """4 of 10 programs, 2 files, 3 requests, 1 refusal."""
    chance = random.Random(1)
    program = {"path": "/usr/bin/python3", "pid": 7, "name": "python3", "argv": ["python3", "-m", "agent"]}
    rule = {"id": "host", "file": "/w/capsule.yaml", "line": 12}
    for number in range(count):
        run, kind = f"r-{number // A_RUN:016x}", number % 10
        if kind < 4:
            yield {
                "type": "exec", "run": run, "pid": chance.randrange(2, 999), "program": "/usr/bin/git",
                "argv": ["git", "status", "--short"], "truncated": False,
            }  # fmt: skip
        elif kind < 6:
            yield {
                "type": "write", "run": run, "pid": 3, "program": "/usr/bin/git", "operation": "create",
                "target": f"/w/src/{chance.randrange(10**6)}.py", "from": None,
            }  # fmt: skip
        elif kind < 9:
            yield {
                "type": "egress.http", "run": run, "program": program,
                "event": {"id": f"e-{number}", "type": "http", "time": "2026-11-25T19:13:30.574058Z"},
                "decision": {"action": "allow", "by": "grant", "rule": rule, "reason": "listed"},
                "http": {
                    "id": f"h-{number}", "method": "GET", "scheme": "https", "host": f"h{chance.randrange(40)}.example",
                    "port": 443, "path": f"/v1/{number}", "version": "2", "headers": {"accept": "*/*"}, "status": 200,
                    "response": {"size": chance.randrange(10**5), "content_type": "application/json"},
                    "duration_us": chance.randrange(10**6), "address": "203.0.113.9",
                },
            }  # fmt: skip
        else:
            yield {
                "type": "denied", "run": run, "program": "/usr/bin/cat", "pid": 3, "operation": "read",
                "syscall": "openat", "target": "/home/u/.ssh/id_ed25519", "layer": "view", "errno": "ENOENT",
                "rule": {"file": "preset:toolchains", "line": 62, "text": 'deny: ["~/.ssh"]'}, "allow": None,
                "probe": False, "count": 1,
            }  # fmt: skip


def verb(env: dict[str, str], *words: str | Path) -> tuple[dict[str, Any], float]:
    """One verb's JSON and how many milliseconds it took, interpreter and all."""
    start = time.perf_counter()
    done = subprocess.run([CAPSULE, *words, "--json"], env=env, capture_output=True, check=False)
    took = (time.perf_counter() - start) * 1000
    if done.returncode:
        raise NotWorkingError(f"{' '.join(map(str, words))}: {done.stderr.decode()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found, took


def main() -> int:
    """Measure, print the table, write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"all taken in": [], "nothing new": [], "compared row by row": []}
    with tempfile.TemporaryDirectory(prefix="capsule-sessions-") as directory:
        place = Path(directory)
        env = os.environ | {f"XDG_{name}_HOME": str(place / name) for name in ("DATA", "STATE", "CACHE")}
        log = place / "capsule.log"
        with subprocess.Popen([CAPSULE, "record", "--log", log], env=env, stdin=subprocess.PIPE) as recording:
            assert recording.stdin is not None
            for entry in entries(options.entries):
                recording.stdin.write(json.dumps(entry).encode() + b"\n")
            recording.stdin.close()
            if recording.wait():
                raise NotWorkingError("capsule record")
        for _ in range(options.rounds):
            shutil.rmtree(place / "STATE/capsule/sessions", ignore_errors=True)
            for old in (place / "STATE/capsule").glob("sessions.*"):
                old.unlink()
            found, took = verb(env, "sessions", "list", "--limit", "1", "--log", log)
            if found["total"] != -(-options.entries // A_RUN):
                raise NotWorkingError(f"{found['total']} sessions")
            times["all taken in"].append(took)
            times["nothing new"].append(verb(env, "sessions", "list", "--limit", "1", "--log", log)[1])
            checked, took = verb(env, "sessions", "rebuild", "--check")
            if checked["entries"] != options.entries + 1 or checked["differences"]:
                raise NotWorkingError(f"compared: {checked}")
            times["compared row by row"].append(took)
            for name, sql in QUERIES.items():
                times.setdefault(name, []).append(verb(env, "sessions", "query", sql)[1])
            times.setdefault("one session's timeline", []).append(
                verb(env, "sessions", "timeline", "r-0000000000000007")[1]
            )
            times.setdefault("hunted with the pack agents", []).append(verb(env, "hunt", "agents")[1])
        size = (place / "STATE/capsule/sessions.db").stat().st_size
        bytes_of_log = log.stat().st_size
    rows = summarise(times, "all taken in")
    print(table(rows))
    taken = next(row for row in rows if row.name == "all taken in")
    facts = {
        "entries": options.entries,
        "entries taken in per second (median, with starting the interpreter)": int(
            options.entries / taken.median * 1000
        ),
        "and at best": int(options.entries / taken.minimum * 1000),
        "the log, MB": bytes_of_log // 1_000_000,
        "the database, MB": size // 1_000_000,
    }
    for name, value in facts.items():
        print(f"{name}: {value}")
    save("sessions", "python -m benchmarks.sessions", {"sessions": rows}, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
