"""What whole machines tell of themselves: programs and files, a flood of them, and past a suspend and a branch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.vm.marks import machines
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(1800)

GUEST = "SELECT command FROM process WHERE reported_by = 'guest'"
FILES = "SELECT operation, path FROM file WHERE reported_by = 'guest'"


def asked(home: Home, machine: str, sql: str) -> list[list[Any]]:
    found = json.loads(home.capsem("query", machine, sql, "--json", "--limit", "10000"))
    rows: list[list[Any]] = found["rows"]
    return rows


def until(home: Home, machine: str, sql: str, holds: Callable[[list[list[Any]]], bool]) -> list[list[Any]]:
    """The rows once it holds: what a guest tells comes a moment after it happened."""
    end = time.monotonic() + 120
    while not holds(rows := asked(home, machine, sql)):
        assert time.monotonic() < end, rows[-20:]
        time.sleep(0.2)
    return rows


def commands(home: Home, machine: str, word: str) -> list[str]:
    """What the guest says was run with this word in it, once there is such a thing."""

    def with_it(rows: list[list[Any]]) -> list[str]:
        return [row[0] for row in rows if row[0] is not None and word in row[0]]

    return with_it(until(home, machine, GUEST, lambda rows: bool(with_it(rows))))


def test_programs_and_files_are_told_as_the_guests_word(home: Home) -> None:
    home.create("-n", "told")
    try:
        script = (
            "mkdir -p /workspace/d; echo x >/workspace/d/a; mv /workspace/d/a /etc/b; rm /etc/b; "
            "for n in 1 2 3 4 5 6 7 8 9; do /bin/true short-$n; done; sh -c 'exit 3' marked; exit 0"
        )
        home.capsem("exec", "told", "--", "sh", "-c", script)
        commands(home, "told", "marked")
        found = asked(home, "told", GUEST)
        assert [f"/bin/true short-{n}" for n in range(1, 10)] == [
            row[0] for row in found if row[0] and "/bin/true short-" in row[0] and "mkdir" not in row[0]
        ], "programs that end at once are told with their arguments, in order"
        host = asked(home, "told", "SELECT command FROM process WHERE reported_by IS NULL")
        assert len(host) == 1, "what the host saw is its own word"
        assert host[0][0].startswith("sh -c mkdir")
        files = until(home, "told", FILES, lambda rows: ["remove", "/etc/b"] in rows)
        assert ["create", "/workspace/d"] in files
        assert ["rename", "/etc/b"] in files or ["create", "/etc/b"] in files
        ended = until(
            home, "told",
            "SELECT json_extract(event, '$.code') FROM events WHERE entry = 'guest.exit' AND "
            "json_extract(event, '$.process.name') LIKE '%sh'",
            lambda rows: [3] in rows,
        )  # fmt: skip
        assert ended
        who = asked(
            home, "told",
            "SELECT json_extract(event, '$.process.uid'), json_extract(event, '$.program.name'), "
            "json_extract(event, '$.process.path') FROM events WHERE entry = 'guest.process' "
            "AND json_extract(event, '$.process.command') = '/bin/true short-9'",
        )  # fmt: skip
        assert [[row[0], row[1].rpartition("/")[2], row[2].rpartition("/")[2]] for row in who] == [
            [0, "dash", "true"]
        ]
        story = home.text("timeline", "told")
        assert "guest" in story
        assert "true (guest)" in story, story
        home.capsem("verify", "told")
    finally:
        home.capsem("delete", "--force", "told")


def test_a_flood_leaves_a_gap_on_the_log_and_nothing_waits_for_it(home: Home) -> None:
    home.create("-n", "flood")
    try:
        monitor = int(home.info("flood")["status"]["pid"])
        before = memory(monitor)
        # More names at once than are told in any minute.
        flood = "mkdir -p /workspace && cd /workspace && seq 1 60000 | xargs touch"
        home.capsem(
            "exec", "flood", "--", "sh", "-c", f"({flood}; touch /tmp/over) >/dev/null 2>&1 </dev/null &"
        )
        while (
            home.text("exec", "flood", "--", "sh", "-c", "[ -e /tmp/over ] && echo over || echo on") != "over"
        ):
            time.sleep(0.2)
        lost = (
            "SELECT json_extract(event, '$.what'), json_extract(event, '$.count') FROM events "
            "WHERE entry = 'guest.lost'"
        )
        gaps = until(home, "flood", lost, bool)
        assert all(what in {"changes", "processes"} and count > 0 for what, count in gaps)
        assert memory(monitor) - before < 64 << 20
        # Programs are told all along, and files again once what was told has been counted.
        home.capsem("exec", "flood", "--", "/bin/true", "after-it")
        commands(home, "flood", "after-it")
        tried = iter(range(1, 1000))

        def again(rows: list[list[Any]]) -> bool:
            home.capsem("exec", "flood", "--", "touch", f"/workspace/again-{next(tried)}")
            return any("again-" in path for _, path in rows)

        until(home, "flood", f"{FILES} ORDER BY id DESC", again)
    finally:
        home.capsem("delete", "--force", "flood")


def test_a_machine_that_is_kept_or_copied_tells_on_and_tells_nothing_twice(home: Home) -> None:
    home.create("-n", "kept")
    try:
        home.capsem("exec", "kept", "--", "/bin/true", "before-it")
        home.capsem("suspend", "kept")
        home.capsem("resume", "kept")
        home.capsem("exec", "kept", "--", "sh", "-c", "/bin/true after-it; echo x >/etc/after")
        assert commands(home, "kept", "after-it")[-1] == "/bin/true after-it"
        home.capsem("branch", "kept", "1", "-n", "child")
        home.capsem("exec", "child", "--", "sh", "-c", "/bin/true of-the-child; echo x >/etc/child")
        home.capsem("exec", "kept", "--", "/bin/true", "of-the-parent")
        mine = {"kept": ("before-it", "after-it", "of-the-parent"), "child": ("of-the-child",)}
        for machine, words in mine.items():
            for word in words:
                exact = [line for line in commands(home, machine, word) if line == f"/bin/true {word}"]
                assert len(exact) == 1, (machine, word)
        until(home, "child", FILES, lambda rows: ["create", "/etc/child"] in rows)
        until(home, "kept", FILES, lambda rows: ["create", "/etc/after"] in rows)
        others = [row[0] for row in asked(home, "child", GUEST) if row[0]]
        assert not [line for line in others if "before-it" in line or "after-it" in line or "parent" in line]
    finally:
        home.capsem("purge", "--all")


def memory(pid: int) -> int:
    """Bytes that are its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) << 10
