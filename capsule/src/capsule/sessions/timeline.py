"""From a session's events to its story in time order, and to what it used, counted. Pure.

Equal neighbours become one beat, so that a story stays short; the counts go over everything. It refuses to grow
with a session's zeal: the lists of a beat and the beats themselves have an end, and what is left out is counted.

    told = tell(run, events)
    [(beat.at, beat.verb, beat.text) for beat in told.beats]
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from capsule.rules.entry import section, text, words
from capsule.sessions.machine import GUEST, PREFIX, Machine

MAX_BEATS = 20_000
MAX_NAMES = 200
MAX_KINDS = 10_000
"""Different hosts, directories, programs that are kept apart; what comes after counts as `…`."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Happened:
    """One event as it lies in the database."""

    time: str
    seq: int
    type: str
    entry: str
    event: Json


@dataclass(slots=True)
class Beat:
    """One thing that happened, or several equal ones after another.

    Attributes:
        at: µs since the session's first entry.
        seq: of its first event.
        verb: `started`, `ran`, `wrote`, `read`, `asked`, `refused`, `connected`, `called`, `found`, …; of a machine
            `began`, `failed`, `halted`, `copied`, `attended`, too.
        who: name of the program.
        names: what it was done to, with counts, in order.
        more: names left out.
        count: how many events.
        note: a reason, or an outcome.
        took: µs until the answers, together, where that is recorded.
    """

    at: int
    seq: int
    verb: str
    who: str = ""
    names: Counter[str] = field(default_factory=Counter)
    more: int = 0
    count: int = 0
    note: str = ""
    took: int = 0

    def add(self, name: str, took: int = 0) -> None:
        """One more of the same."""
        self.count += 1
        self.took += took
        if name in self.names or len(self.names) < MAX_NAMES:
            self.names[name] += 1
        else:
            self.more += 1


@dataclass(slots=True)
class HostUse:
    """What went to one host."""

    requests: int = 0
    blocked: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    methods: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class ModelUse:
    """What one model was used for."""

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    unpriced: int = 0


@dataclass(slots=True)
class Refused:
    """One kind of refusal."""

    operation: str
    target: str
    program: str
    rule: str
    allow: str
    probe: bool
    count: int = 0


@dataclass(slots=True)
class Told:
    """A session's story and its counts."""

    run: Json
    end: int = 0
    events: int = 0
    offsets: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    beats: list[Beat] = field(default_factory=list)
    untold: int = 0
    programs: Counter[str] = field(default_factory=Counter)
    files: dict[str, Counter[str]] = field(default_factory=dict)
    hosts: dict[str, HostUse] = field(default_factory=dict)
    names: Counter[tuple[str, str]] = field(default_factory=Counter)
    models: dict[str, ModelUse] = field(default_factory=dict)
    tools: Counter[tuple[str, str]] = field(default_factory=Counter)
    denied: dict[tuple[str, str, str], Refused] = field(default_factory=dict)
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    asks: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    machine: Machine = field(default_factory=Machine)


def microseconds(time: str) -> int:
    """A log's time as µs since 1970; 0 for one that is none."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return 0
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def tell(run: Json, events: Iterable[Happened]) -> Told:
    """The story of one session.

    Args:
        run: its row in `runs`, by column.
        events: its events, in the log's order.
    """
    told = Told(run)
    begin = microseconds(str(run["started"]))
    for happened in events:
        at = max(0, microseconds(happened.time) - begin)
        told.end = max(told.end, at)
        told.events += 1
        told.offsets.append(at)
        teller = _machine if happened.entry.startswith((PREFIX, GUEST)) else _other
        _TELLERS.get(happened.entry, teller)(told, at, happened)
    return told


def _beat(
    told: Told, when: tuple[int, Happened], what: tuple[str, str], name: str, note: str = "", *, took: int = 0
) -> None:
    (at, happened), (verb, who) = when, what
    last = told.beats[-1] if told.beats else None
    if last is None or (last.verb, last.who, last.note) != (verb, who, note):
        if len(told.beats) >= MAX_BEATS:
            told.untold += 1
            return
        last = Beat(at, happened.seq, verb, who, note=note)
        told.beats.append(last)
    last.add(name, took)


def _keyed(table: Mapping[Any, Any], key: str) -> str:
    return key if key in table or len(table) < MAX_KINDS else "…"


def _who(event: Json) -> str:
    """The program's name; of a machine, where the guest alone says which it was, with that word."""
    program = section(event, "program")
    name = text(program.get("name")) or ""
    return f"{name} (guest)" if name and program.get("reported_by") == "guest" else name


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _started(told: Told, at: int, happened: Happened) -> None:
    _beat(told, (at, happened), ("started", ""), shlex.join(words(happened.event.get("command"))))


def _ended(told: Told, at: int, happened: Happened) -> None:
    end = section(happened.event, "exit")
    _beat(told, (at, happened), ("ended", ""), text(end.get("cause")) or "", str(end.get("code")))


def _exec(told: Told, at: int, happened: Happened) -> None:
    name = text(section(happened.event, "process").get("name")) or ""
    told.programs[_keyed(told.programs, name)] += 1
    _beat(told, (at, happened), ("ran", ""), name)


def _file(told: Told, at: int, happened: Happened) -> None:
    file = section(happened.event, "file")
    operation, path = text(file.get("operation")) or "write", text(file.get("path")) or ""
    place = path.rpartition("/")[0] or "/"
    if operation != "read":
        told.files.setdefault(_keyed(told.files, place), Counter())[operation] += 1
    verb = {"read": "read", "remove": "removed", "rename": "renamed"}.get(operation, "wrote")
    source = text(file.get("from"))
    _beat(told, (at, happened), (verb, _who(happened.event)), f"{source} → {path}" if source else path)


def _denied(told: Told, at: int, happened: Happened) -> None:
    denial = section(happened.event, "denial")
    operation, target = text(denial.get("operation")) or "", text(denial.get("target")) or ""
    who, rule = _who(happened.event), section(denial, "rule")
    line = f"{text(rule.get('text'))} ({text(rule.get('file'))}:{rule.get('line')})" if rule else ""
    key = (operation, target, who)
    if key not in told.denied and len(told.denied) >= MAX_KINDS:
        key = ("…", "…", "…")
    found = told.denied.get(key)
    if found is None:
        found = Refused(*key, line, text(denial.get("allow")) or "", denial.get("probe") is True)
        told.denied[key] = found
    found.count += max(1, _count(denial.get("count")))
    if not found.probe:
        told.refusals.append(at)
        _beat(told, (at, happened), ("refused", who), f"{operation} {target}", line)


def _host(told: Told, name: str) -> HostUse:
    return told.hosts.setdefault(_keyed(told.hosts, name), HostUse())


def _decided(event: Json) -> tuple[bool, str]:
    decision = section(event, "decision")
    blocked = decision.get("action") == "block"
    return blocked, (text(decision.get("reason")) or text(decision.get("by")) or "") if blocked else ""


def _http(told: Told, at: int, happened: Happened) -> None:
    http = section(happened.event, "http")
    host, method = text(http.get("host")) or "?", text(http.get("method")) or "?"
    blocked, why = _decided(happened.event)
    use = _host(told, host)
    use.requests += 1
    use.blocked += blocked
    use.methods[method] += 1
    use.bytes_out += _count(section(http, "body").get("size"))
    use.bytes_in += _count(section(http, "response").get("size"))
    if blocked:
        told.refusals.append(at)
    name = f"{method} {host}{text(http.get('path')) or ''}"
    _beat(told, (at, happened), ("refused" if blocked else "requested", _who(happened.event)), name, why)


def _tcp(told: Told, at: int, happened: Happened) -> None:
    tcp = section(happened.event, "tcp")
    host = text(tcp.get("host")) or text(tcp.get("sni")) or text(tcp.get("address")) or "?"
    port = f":{tcp['port']}" if isinstance(tcp.get("port"), int) else ""
    blocked, why = _decided(happened.event)
    use = _host(told, host)
    use.requests += 1
    use.blocked += blocked
    use.bytes_out += _count(tcp.get("bytes_out"))
    use.bytes_in += _count(tcp.get("bytes_in"))
    if blocked:
        told.refusals.append(at)
    verb = "refused" if blocked else "connected"
    _beat(told, (at, happened), (verb, _who(happened.event)), f"{host}{port}", why)


def _dns(told: Told, at: int, happened: Happened) -> None:
    dns = section(happened.event, "dns")
    blocked, why = _decided(happened.event)
    count = max(1, _count(dns.get("count")), _count(happened.event.get("count")))
    name = _keyed(told.names, text(dns.get("name")) or "?")
    told.names[name, "block" if blocked else "allow"] += count
    if blocked:
        told.refusals.append(at)
        _beat(told, (at, happened), ("refused", _who(happened.event)), f"name {name}", why)


def _model(told: Told, at: int, happened: Happened) -> None:
    model = section(happened.event, "model")
    name = text(model.get("name")) or text(model.get("provider")) or "?"
    use = told.models.setdefault(_keyed(told.models, name), ModelUse())
    use.calls += 1
    use.input_tokens += _count(model.get("input_tokens"))
    use.cached_tokens += _count(model.get("cached_tokens"))
    use.output_tokens += _count(model.get("output_tokens"))
    if model.get("priced") is False or "cost_microdollars" not in model:
        use.unpriced += 1
    else:
        use.cost += _count(model.get("cost_microdollars"))
    calls = model.get("tool_calls")
    wanted = (
        [text(section({"call": call}, "call").get("name")) for call in calls]
        if isinstance(calls, list)
        else []
    )
    note = f"wants {', '.join(name for name in wanted if name)}" if any(wanted) else ""
    _beat(told, (at, happened), ("called", _who(happened.event)), name, note)


def _tool(told: Told, at: int, happened: Happened) -> None:
    call = section(happened.event, "call")
    name = text(call.get("tool")) or text(call.get("function")) or "?"
    told.tools[_keyed(told.tools, name), ""] += 1
    _beat(told, (at, happened), ("used", _who(happened.event)), name)


def _mcp(told: Told, at: int, happened: Happened) -> None:
    """One message: to which server, what for, how it was decided, and what came of it."""
    mcp, who = section(happened.event, "mcp"), _who(happened.event)
    server, method = text(mcp.get("server")) or "?", text(mcp.get("method")) or ""
    tool = text(mcp.get("tool")) or ""
    name = " ".join(filter(None, (server, "" if method == "tools/call" and tool else method, tool)))
    error = text(mcp.get("error")) or ""
    if mcp.get("direction") == "in":
        who = f"server {server}"
    if (why := _refusal(happened.event)) is not None:
        told.refusals.append(at)
        _beat(told, (at, happened), ("refused", who), name if method else f"{server}: no message", why)
        return
    told.tools[_keyed(told.tools, tool or method or "?"), server] += 1
    notes = [_agreed(happened.event)]
    if hidden := _count(mcp.get("tools_hidden")):
        notes.append(f"{hidden} of {_count(mcp.get('tools_listed'))} tools are not shown")
    notes.append(f"failed: {error}" if error else "")
    note = "; ".join(filter(None, notes))
    _beat(told, (at, happened), ("used", who), name, note, took=_count(mcp.get("duration_us")))


def _refusal(event: Json) -> str | None:
    """Why something was refused, and by which rule; None when it was not."""
    decision = section(event, "decision")
    if decision.get("action") != "block":
        return None
    return " ".join(
        filter(None, (text(decision.get("reason")) or text(decision.get("by")), _ruled(decision)))
    )


def _agreed(event: Json) -> str:
    """Who let something through, where it was not simply granted."""
    decision = section(event, "decision")
    if decision.get("by") not in ("rule", "ask"):
        return ""
    return " ".join(filter(None, (text(decision.get("reason")) or "allowed", _ruled(decision))))


def _ruled(decision: Json) -> str:
    rule = section(decision, "rule")
    name, file, line = text(rule.get("id")), text(rule.get("file")), rule.get("line")
    where = f", {file}:{line}" if file and isinstance(line, int) else ""
    return f"(rule {name}{where})" if name else ""


def _finding(told: Told, at: int, happened: Happened) -> None:
    rule = section(happened.event, "rule")
    title, level = text(rule.get("title")) or text(rule.get("id")) or "?", text(rule.get("level")) or "?"
    told.findings[level, _keyed(told.findings, title)] += max(1, _count(happened.event.get("times")))
    _beat(told, (at, happened), ("found", level), title)


def _ask(told: Told, at: int, happened: Happened) -> None:
    ask = section(happened.event, "ask")
    told.asks["asked"] += 1
    _beat(
        told,
        (at, happened),
        ("asked", ""),
        text(ask.get("what")) or "?",
        text(section(ask, "rule").get("reason")) or "",
    )


def _answer(told: Told, at: int, happened: Happened) -> None:
    answer = section(happened.event, "answer")
    outcome = "allowed" if answer.get("allowed") is True else "denied"
    told.asks[outcome] += 1
    how = text(answer.get("outcome")) or outcome
    said = how if how.startswith(outcome) else f"{outcome}: {how}"
    _beat(told, (at, happened), ("answered", ""), said)


def _budget(told: Told, at: int, happened: Happened) -> None:
    near = ", ".join(words(happened.event.get("near")))
    _beat(told, (at, happened), ("noted", ""), f"the budget is nearly used up: {near}")


def _machine(told: Told, at: int, happened: Happened) -> None:
    step = told.machine.step(happened.entry, happened.event)
    if step is None:
        return
    if step.program:
        told.programs[_keyed(told.programs, step.program)] += 1
    if step.file is not None:
        place, operation = step.file
        told.files.setdefault(_keyed(told.files, place), Counter())[operation] += 1
    if step.verb == "refused":
        told.refusals.append(at)
    _beat(told, (at, happened), (step.verb, step.who), step.name, step.note)


def _quiet(told: Told, at: int, happened: Happened) -> None:
    """Nothing to tell: what it says is in the counts already."""


def _other(told: Told, at: int, happened: Happened) -> None:
    told.unknown[_keyed(told.unknown, happened.entry)] += 1
    why = text(happened.event.get("why")) or text(happened.event.get("limit")) or ""
    _beat(told, (at, happened), ("noted", ""), happened.entry, why)


_TELLERS = {
    "run.started": _started,
    "run.ended": _ended,
    "exec": _exec,
    "write": _file,
    "read": _file,
    "denied": _denied,
    "connect": _tcp,
    "egress.http": _http,
    "egress.tcp": _tcp,
    "egress.dns": _dns,
    "egress.model": _model,
    "egress.mcp": _mcp,
    "egress.websocket": _quiet,
    "egress.session": _quiet,
    "call.started": _tool,
    "call.ended": _quiet,
    "egress.finding": _finding,
    "guest.finding": _finding,
    "egress.ask": _ask,
    "egress.answer": _answer,
    "egress.budget": _budget,
}
