from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.audit.entry import EntryError, parse
from capsule.sessions.rows import Batch, integer, listed, read_line, scalar
from capsule.sessions.schema import INDEXED, SEQ_BITS
from tests.audit.forge import entry
from tests.sessions.recorded import exec_, guest, machine, session


def batch(*entries: dict[str, Any]) -> Batch:
    made = Batch(3)
    for seq, each in enumerate(entries):
        fields = {key: value for key, value in each.items() if key not in ("type", "run")}
        made.add(read_line(entry(seq, each["type"], each["run"], **fields)))
    return made


def row(table: str, found: tuple[Any, ...]) -> dict[str, Any]:
    names = next(each.names for each in INDEXED if each.name == table)
    return dict(zip(names, found, strict=True))


def test_every_kind_of_entry_has_its_rows() -> None:
    made = batch(*session())
    counts = {name: len(rows) for name, rows in made.rows.items()}
    assert counts == {
        "events": 26, "process": 2, "file": 3, "denials": 4, "tcp": 3, "dns": 2, "http": 2, "model": 1, "tool": 5,
        "findings": 1, "asks": 2, "decisions": 5, "commands": 0,
    }  # fmt: skip
    assert all(len(set(ids)) == len(ids) for ids in ([found[0] for found in made.rows["events"]],))
    assert made.rows["events"][5][0] == (3 << SEQ_BITS) | 5
    assert made.runs == {"r-1": (0, "2026-11-22T12:00:00.000000Z")}
    assert made.last == {"r-1": 25}


def test_columns_hold_what_they_say() -> None:
    made = batch(*session())
    http = row("http", made.rows["http"][0])
    assert (http["host"], http["status"], http["bytes_out"], http["bytes_in"]) == (
        "api.example.org",
        200,
        12,
        2048,
    )
    assert (http["secrets"], http["action"], http["program"]) == ('["github"]', "allow", "/usr/bin/python3")
    blocked = row("decisions", made.rows["decisions"][3])
    assert (blocked["type"], blocked["action"], blocked["rule"], blocked["line"], blocked["missing"]) == (
        "http", "block", "no-gists", 9, '["http.body"]',
    )  # fmt: skip
    assert (row("dns", made.rows["dns"][1])["count"], row("tcp", made.rows["tcp"][1])["address"]) == (
        3,
        "unix:/run/x.sock",
    )
    model = row("model", made.rows["model"][0])
    assert (model["stream"], model["cost_microdollars"], model["cached_tokens"]) == (1, 8100, 1000)
    tools = [row("tool", found) for found in made.rows["tool"]]
    assert [(tool["origin"], tool["tool"], tool["place"]) for tool in tools] == [
        ("model", "bash", 0), ("model", "edit", 1), ("mcp", "grep", 0), ("call", "add", 0), ("call", None, 0),
    ]  # fmt: skip
    finding, ask = row("findings", made.rows["findings"][0]), row("asks", made.rows["asks"][1])
    assert (finding["level"], finding["events"], finding["count"]) == ("high", '["e-1","e-2"]', 2)
    assert (ask["ask"], ask["allowed"], ask["by"]) == ("a-1", 0, "terminal")
    assert row("denials", made.rows["denials"][3])["probe"] == 1


def test_a_run_is_known_by_its_start_and_end() -> None:
    made = batch(
        {"type": "run.started", "run": "r-9", "command": ["ls", {"bytes": "/w=="}], "cwd": "/w", "audit": "all",
         "policy": {"name": "p", "file": "f", "digest": "d"}, "enforced": {"tier": "full", "degraded": ["cgroup"]},
         "who": {"uid": 1000}, "host": {"name": "h"}, "version": "0.1.0"},
        {"type": "run.ended", "run": "r-9", "exit": {"cause": "signalled", "code": 137, "signal": 9, "reason": None,
         "limit": "memory"}, "denials": 1, "executed": 2, "written": 3, "usage": {"wall_ms": 5}},
    )  # fmt: skip
    assert made.started[0][:2] == ('["ls","\\\\xff"]', "/w")
    assert made.started[0][6:8] == ("full", '["cgroup"]')
    assert made.ended[0][1:5] == ("signalled", 137, "9", "memory")


ODD: list[Any] = [
    None,
    True,
    -1,
    2**53 - 1,
    "",
    "x" * 9000,
    "\x1b[2J\u202e",
    [],
    ["a", 1],
    {},
    {"a": 1},
    {"bytes": "!"},
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("kind", sorted({each["type"] for each in session()} | {"run.started", "run.ended"}))
def test_odd_values_are_rows_of_nulls_and_never_an_error(kind: str, odd: Any) -> None:
    """Every member of every entry, and every member of its sections, replaced by something it should not be."""
    for each in [each for each in session() if each["type"] == kind] or [{"type": kind, "run": "r-1"}]:
        for name in [key for key in each if key not in ("type", "run")] + ["extra"]:
            made = batch({**each, name: odd})
            for table, rows in made.rows.items():
                for found in rows:
                    assert all(isinstance(value, str | int | None) for value in found), (table, found)
            if isinstance(each.get(name), dict):
                for inner in each[name]:
                    batch({**each, name: {**each[name], inner: odd}})


def test_values_sqlite_cannot_hold_are_null() -> None:
    numbers: list[Any] = [2**63 - 1, 2**63, -(2**63), "1", None, True]
    assert [integer(value) for value in numbers] == [2**63 - 1, None, None, None, None, 1]
    assert [scalar(3), scalar("x"), scalar(None), scalar([])] == ["3", "x", None, None]
    assert [listed(value) for value in ([], [1], {}, {"a": 1}, "x")] == [None, "[1]", None, '{"a":1}', None]


@pytest.mark.parametrize(
    "line",
    [
        b'{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":1,"run":null,"type":"exec","a":1,"a":2}',
        b'{"seq":1, "time":"2026-11-22T12:00:00.000000Z","mono":1,"run":null,"type":"exec"}',
        b'{"time":"2026-11-22T12:00:00.000000Z","seq":1,"mono":1,"run":null,"type":"exec"}',
        b'{"seq":1,"time":"yesterday","mono":1,"run":null,"type":"exec"}',
        b'{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":1,"run":"\x1b[2J","type":"exec"}',
        b'{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":1,"run":"evil","type":"exec"}',
        b'{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":1,"run":null,"type":"Exec"}',
        b'{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":1,"run":null,"type":"exec","a":1e3}',
        b"[1]", b"", b"\xff", b"[" * 100_000,
        b'{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":1,"run":null,"type":"exec","a":'
        + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_line_that_could_be_read_in_two_ways_is_refused(line: bytes) -> None:
    with pytest.raises(EntryError):
        read_line(line)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.text(max_size=20) | st.integers(-(2**53) + 1, 2**53 - 1),
    )
)
def test_both_ways_of_reading_agree(fields: dict[str, Any]) -> None:
    line = json.dumps(
        {"seq": 1, "time": "2026-11-22T12:00:00.000000Z", "mono": 1, "run": None, "type": "x", **fields},
        separators=(",", ":"), ensure_ascii=False,
    ).encode("utf-8", "surrogatepass")  # fmt: skip
    try:
        strict: Any = parse(line).fields
    except EntryError:
        return  # a control character, raw: the fast way may read it, the log never has it
    assert read_line(line) == strict


def test_escaped_letters_take_the_strict_way() -> None:
    line = b'{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":1,"run":null,"type":"exec","argv":["\\u202etrue"]}'
    assert read_line(line)["argv"] == ["\u202etrue"]


def test_a_batch_counts() -> None:
    assert batch(exec_(), exec_(None)).count == 2


def test_what_was_asked_of_a_machine_has_its_rows_and_what_was_refused_was_never_a_process() -> None:
    made = batch(*machine())
    assert [row("commands", one)["command"] for one in made.rows["commands"]] == [
        "host-1",
        "host-1",
        "host-2",
    ]
    start, end, refused = (row("commands", one) for one in made.rows["commands"])
    assert (start["argv"], start["cwd"], start["uid"], start["action"], start["outcome"]) == (
        '["ls","-l"]', "/root", 7, "allow", None,
    )  # fmt: skip
    assert (end["argv"], end["outcome"], end["code"], end["cpu_ms"]) == (None, "exited", 2, 5)
    assert (refused["action"], refused["argv"]) == ("block", '["rm","-r"]')
    assert [row("process", one)["command"] for one in made.rows["process"]] == ["ls -l"]
    assert [row("file", one)["path"] for one in made.rows["file"]] == ["/root/x"]
    decided = [row("decisions", one) for one in made.rows["decisions"]]
    assert [(one["type"], one["action"]) for one in decided] == [
        ("process", "allow"), ("process", "block"), ("file", "allow"), ("machine.dial", "allow"),
        ("machine.dial", "block"),
    ]  # fmt: skip
    assert (decided[1]["rule"], decided[1]["line"]) == ("no-rm", 3)


def test_who_attends_and_a_deadline_are_rows_of_events_whole() -> None:
    told = [
        {"type": "machine.attended", "run": "r-m-1", "exec": "host-1", "pid": 7, "as": "kill", "signal": 9},
        {"type": "machine.deadline", "run": "r-m-1", "reason": "set", "after_ms": 5},
        {"type": "machine.deadline_came", "run": "r-m-1", "after_ms": 5},
    ]
    made = batch(*told)
    rows = [(found[5], json.loads(found[6])) for found in made.rows["events"]]
    wanted = [(one["type"], {k: v for k, v in one.items() if k not in ("type", "run")}) for one in told]
    assert rows == wanted
    assert {name for name, found in made.rows.items() if found} == {"events"}


def test_what_a_guest_says_has_its_rows_with_that_word_in_them() -> None:
    made = batch(*guest())
    (process,) = (row("process", one) for one in made.rows["process"])
    assert (process["pid"], process["path"], process["command"], process["reported_by"]) == (
        7, "/bin/ls", "ls -l", "guest",
    )  # fmt: skip
    (file,) = (row("file", one) for one in made.rows["file"])
    assert (file["operation"], file["path"], file["source"], file["reported_by"]) == (
        "rename", "/w/b", "/w/a", "guest",
    )  # fmt: skip
    assert made.rows["decisions"] == made.rows["commands"] == []
    kinds = [(row("events", one)["type"], row("events", one)["entry"]) for one in made.rows["events"]]
    assert kinds[:3] == [("process", "guest.process"), ("guest.exit", "guest.exit"), ("file", "guest.file")]


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ({"timed_out": True, "signal": 9}, "timed_out"),
        ({"signal": 15}, "signal"),
        ({"errno": "ENOENT"}, "failed"),
    ],
)
def test_how_a_command_in_a_machine_ended(end: dict[str, Any], outcome: str) -> None:
    made = batch({"type": "machine.exit", "run": "r-m-1", "exec": "host-1", **end})
    assert row("commands", made.rows["commands"][0])["outcome"] == outcome
