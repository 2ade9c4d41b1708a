"""From a line of a log to rows of the database. Pure.

It refuses a line that another reader could read otherwise (it asks `capsule.audit.entry`), a seq that is not the next
one, and numbers that SQLite cannot hold, which become null. Entries of unknown types have a row in `events` alone.

    batch = Batch(log=1)
    batch.add(read_line(b'{"seq":7,…}'))
    batch.rows["events"]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from capsule.audit.entry import EntryError, parse
from capsule.rules.entry import EGRESS, MACHINE, event_of, section, text, words
from capsule.sessions.schema import INDEXED, SEQ_BITS

_LARGEST = 2**63 - 1
_HEAD = re.compile(
    rb'\{"seq":[0-9]{1,16},"time":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z","mono":[0-9]{1,16},'
    rb'"run":(?:null|"r-[A-Za-z0-9_-]{1,64}"),"type":"[a-z][a-z0-9_.]{0,63}"[,}]'
)
_BRACKETS = 64
"""Lines with more may be nested too deep; whether they are, the strict parser says."""
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

Row = tuple[Any, ...]
Json = dict[str, Any]
Rows = dict[str, list[Row]]


def read_line(line: bytes) -> Json:
    """The members of one entry.

    A line that is written exactly as it would be written again has no name twice, no space, no other way of
    writing a character: every reader reads it alike. That is seen at a million lines a second; only the others go
    through the strict parser.

    Raises:
        EntryError: the line is not of the log's dialect.
    """
    try:
        fields = _decode(line)
        same = _encode(fields) == line
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise EntryError(str(error)) from error
    if not same or line.count(b"[") + line.count(b"{") > _BRACKETS:
        return dict(parse(line).fields)
    if _HEAD.match(line) is None:
        raise EntryError("an entry begins with seq, time, mono, run and type")
    assert isinstance(fields, dict)
    return fields


def integer(value: Any) -> int | None:
    """A number that SQLite holds; true is 1."""
    return int(value) if isinstance(value, int) and -_LARGEST <= value <= _LARGEST else None


def scalar(value: Any) -> str | None:
    """Text, or a number or truth value as text."""
    return str(value) if isinstance(value, int) else text(value)


def listed(value: Any) -> str | None:
    """A list or object as JSON; null for anything else, or nothing in it."""
    return _encode(value).decode() if isinstance(value, list | dict) and value else None


class Batch:
    """The rows of entries of one log, one list a table, and what became of its runs."""

    def __init__(self, log: int) -> None:
        self.log = log
        self.count = 0
        self.rows: dict[str, list[Row]] = {table.name: [] for table in INDEXED}
        self.runs: dict[str, tuple[int, str]] = {}
        self.last: dict[str, int] = {}
        self.started: list[Row] = []
        self.ended: list[Row] = []

    def add(self, entry: Json) -> None:
        """Add the rows of one entry, as `read_line` gave it."""
        self.count += 1
        seq, run, time, kind = entry["seq"], entry["run"], entry["time"], entry["type"]
        number = (self.log << SEQ_BITS) | seq
        name, event = event_of(entry)
        self.rows["events"].append((number, run, seq, time, name, kind, _encode(event).decode()))
        if run is not None:
            if run not in self.runs:
                self.runs[run] = (seq, time)
            self.last[run] = seq
            if kind == "run.started":
                self.started.append(_started(entry, self.log))
            elif kind == "run.ended":
                self.ended.append(_ended(entry, self.log))
        make = _MAKERS.get(kind)
        if make is not None:
            make(self.rows, number, run, event)
        if "decision" in event and (kind in EGRESS or kind in _DECIDED):
            self.rows["decisions"].append(_decision(number, run, name, event))


def _started(entry: Json, log: int) -> Row:
    policy, enforced = section(entry, "policy"), section(entry, "enforced")
    return (
        listed(words(entry.get("command"))), text(entry.get("cwd")), text(policy.get("name")),
        text(policy.get("file")), text(policy.get("digest")), text(entry.get("plan")), text(enforced.get("tier")),
        listed(words(enforced.get("degraded"))), text(entry.get("audit")),
        integer(section(entry, "who").get("uid")), text(section(entry, "host").get("name")),
        text(entry.get("version")), log, entry["run"],
    )  # fmt: skip


def _ended(entry: Json, log: int) -> Row:
    end, usage = section(entry, "exit"), section(entry, "usage")
    return (
        entry["time"], text(end.get("cause")), integer(end.get("code")), scalar(end.get("signal")),
        text(end.get("reason")) or text(end.get("limit")), integer(entry.get("denials")),
        integer(entry.get("executed")), integer(entry.get("written")), integer(usage.get("wall_ms")),
        integer(usage.get("cpu_ms")), integer(usage.get("max_rss_bytes")), log, entry["run"],
    )  # fmt: skip


def _decision(number: int, run: str | None, name: str, event: Json) -> Row:
    decision = section(event, "decision")
    rule = section(decision, "rule")
    return (
        number, run, name, text(decision.get("action")), text(decision.get("by")), text(rule.get("id")),
        text(rule.get("file")), integer(rule.get("line")), text(rule.get("owner")), integer(rule.get("priority")),
        text(decision.get("reason")), listed(words(decision.get("missing"))),
    )  # fmt: skip


def _reported(section_: Json) -> str | None:
    return text(section_.get("reported_by"))


def _action(event: Json) -> str | None:
    return text(section(event, "decision").get("action"))


def _http(rows: Rows, number: int, run: str | None, event: Json) -> None:
    http, program = section(event, "http"), section(event, "program")
    answer = section(http, "response")
    rows["http"].append((
        number, run, text(http.get("id")), text(program.get("path")), integer(program.get("pid")),
        text(http.get("method")), text(http.get("scheme")), text(http.get("host")), integer(http.get("port")),
        text(http.get("path")), text(http.get("query")), text(http.get("version")), integer(http.get("status")),
        text(http.get("content_type")), integer(section(http, "body").get("size")), integer(answer.get("size")),
        integer(http.get("duration_us")), integer(http.get("first_byte_us")), text(http.get("address")),
        listed(words(http.get("secret"))), _action(event), text(http.get("error")), _reported(program),
    ))  # fmt: skip


def _dns(rows: Rows, number: int, run: str | None, event: Json) -> None:
    dns, program = section(event, "dns"), section(event, "program")
    count = integer(dns.get("count"))
    rows["dns"].append((
        number, run, text(program.get("path")), integer(program.get("pid")), text(dns.get("name")),
        text(dns.get("qtype")), text(dns.get("transport")),
        text(dns.get("answer")) or listed(dns.get("answer")), scalar(dns.get("rcode")),
        integer(dns.get("labels")), integer(dns.get("length")), scalar(dns.get("entropy")),
        integer(event.get("count")) if count is None else count, _action(event), _reported(program),
    ))  # fmt: skip


def _tcp(rows: Rows, number: int, run: str | None, event: Json) -> None:
    tcp, program = section(event, "tcp"), section(event, "program")
    rows["tcp"].append((
        number, run, text(program.get("path")), integer(program.get("pid")), text(tcp.get("host")),
        text(tcp.get("address")), integer(tcp.get("port")), text(tcp.get("sni")), integer(tcp.get("tls")),
        integer(tcp.get("bytes_out")), integer(tcp.get("bytes_in")), integer(tcp.get("duration_us")),
        _action(event), text(tcp.get("error")), _reported(program),
    ))  # fmt: skip


def _model(rows: Rows, number: int, run: str | None, event: Json) -> None:
    model, program = section(event, "model"), section(event, "program")
    rows["model"].append((
        number, run, text(model.get("http_id")), text(program.get("path")), text(model.get("provider")),
        text(model.get("api")), text(model.get("name")), integer(model.get("stream")),
        integer(model.get("messages")), integer(model.get("input_tokens")), integer(model.get("cached_tokens")),
        integer(model.get("cache_write_tokens")), integer(model.get("output_tokens")),
        integer(model.get("reasoning_tokens")),
        None if model.get("priced") is False else integer(model.get("cost_microdollars")),
        text(model.get("stop_reason")), text(model.get("response_id")), text(model.get("previous")),
        integer(model.get("unknown")), text(model.get("error")),
    ))  # fmt: skip
    calls = model.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else []):
        if isinstance(call, dict):
            rows["tool"].append((
                number, place, run, "model", text(call.get("name")), None, None, scalar(call.get("id")), None,
                integer(call.get("arguments_size")), None, None, None,
            ))  # fmt: skip


def _mcp(rows: Rows, number: int, run: str | None, event: Json) -> None:
    mcp = section(event, "mcp")
    rows["tool"].append((
        number, 0, run, "mcp", text(mcp.get("tool")), text(mcp.get("method")), text(mcp.get("server")),
        scalar(mcp.get("request_id")), None, integer(mcp.get("arguments_size")),
        integer(mcp.get("result_size")), integer(mcp.get("duration_us")), text(mcp.get("error")),
    ))  # fmt: skip


def _called(rows: Rows, number: int, run: str | None, event: Json) -> None:
    call = event.get("call")
    call = call if isinstance(call, dict) else event
    rows["tool"].append((
        number, 0, run, "call", text(call.get("tool")), text(call.get("function")), None, scalar(call.get("call")),
        text(call.get("outcome")), integer(call.get("arguments_bytes")), integer(call.get("answer_bytes")),
        integer(call.get("us")), text(call.get("error")) or text(call.get("reason")),
    ))  # fmt: skip


def _process(rows: Rows, number: int, run: str | None, event: Json) -> None:
    process = section(event, "process")
    rows["process"].append((
        number, run, integer(process.get("pid")), text(process.get("path")), text(process.get("name")),
        text(process.get("command")), _reported(event),
    ))  # fmt: skip


def _file(rows: Rows, number: int, run: str | None, event: Json) -> None:
    file, program = section(event, "file"), section(event, "program")
    rows["file"].append((
        number, run, text(program.get("path")), integer(program.get("pid")), text(file.get("operation")),
        text(file.get("path")), text(file.get("from")), _reported(event),
    ))  # fmt: skip


def _exec(rows: Rows, number: int, run: str | None, event: Json) -> None:
    """A command in a machine; refused, it was never a process."""
    if _action(event) != "block":
        _process(rows, number, run, event)
    process = section(event, "process")
    rows["commands"].append((
        number, run, text(section(event, "event").get("id")), listed(words(process.get("argv"))),
        text(event.get("cwd")), integer(event.get("user")), _action(event), None, None, None, None, None,
    ))  # fmt: skip


def _exit(rows: Rows, number: int, run: str | None, event: Json) -> None:
    errno, signal = text(event.get("errno")), integer(event.get("signal"))
    late = event.get("timed_out") is True
    outcome = "failed" if errno else "timed_out" if late else "exited" if signal is None else "signal"
    rows["commands"].append((
        number, run, text(event.get("exec")), None, None, None, None, outcome, integer(event.get("code")), signal,
        errno, integer(event.get("cpu_ms")),
    ))  # fmt: skip


def _handled(rows: Rows, number: int, run: str | None, event: Json) -> None:
    """A file of a machine that was read or written from outside."""
    if _action(event) != "block":
        _file(rows, number, run, event)


def _denied(rows: Rows, number: int, run: str | None, event: Json) -> None:
    denial, program = event["denial"], event["program"]
    rule = section(denial, "rule")
    rows["denials"].append((
        number, run, program.get("path"), integer(program.get("pid")), text(denial.get("operation")),
        text(denial.get("syscall")), text(denial.get("target")), text(denial.get("layer")),
        text(denial.get("errno")), text(rule.get("text")), text(rule.get("file")), integer(rule.get("line")),
        text(denial.get("allow")), integer(denial.get("probe")), integer(denial.get("count")),
    ))  # fmt: skip


def _finding(rows: Rows, number: int, run: str | None, event: Json) -> None:
    rule = section(event, "rule")
    rows["findings"].append((
        number, run, text(rule.get("id")), text(rule.get("title")), text(rule.get("level")), text(rule.get("file")),
        integer(rule.get("line")), listed(words(event.get("events"))), integer(event.get("count")),
    ))  # fmt: skip


def _ask(rows: Rows, number: int, run: str | None, event: Json) -> None:
    asked = "ask" in event
    ask = section(event, "ask" if asked else "answer")
    rule = section(ask, "rule")
    what = ask.get("what")
    rows["asks"].append((
        number, run, scalar(ask.get("id")), text(what) or listed(what),
        None if asked else integer(ask.get("allowed")), text(ask.get("outcome")), text(ask.get("by")),
        text(rule.get("id")), text(rule.get("reason")),
    ))  # fmt: skip


_MAKERS: dict[str, Callable[[Rows, int, str | None, Json], None]] = {
    "egress.http": _http,
    "egress.dns": _dns,
    "egress.tcp": _tcp,
    "egress.model": _model,
    "egress.mcp": _mcp,
    "egress.finding": _finding,
    "egress.ask": _ask,
    "egress.answer": _ask,
    "exec": _process,
    "write": _file,
    "read": _file,
    "connect": _tcp,
    "denied": _denied,
    "call.started": _called,
    "call.ended": _called,
    "machine.exec": _exec,
    "machine.exit": _exit,
    "machine.file": _handled,
    "guest.process": _process,
    "guest.file": _file,
    "guest.finding": _finding,
}
_DECIDED = {*MACHINE, "machine.dial"}
