"""Sessions as OpenTelemetry traces and logs, in the JSON encoding of OTLP (opentelemetry-proto 1.x, OTLP/JSON). Pure.

A session is a trace: its span is the run; requests, model calls and tools of MCP are spans beneath. Refusals, findings,
asks, programs and files are log records of that trace. Ids are made from the session and the entry, so that sending
twice makes nothing twice. It refuses to send what it cannot name: an attribute that is not known is absent.

    traces(run, events)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"]      # 'git status'
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from blake3 import blake3

from capsule.rules.entry import text
from capsule.sessions.subject import place_of, subject_of
from capsule.sessions.timeline import Happened, microseconds

Json = dict[str, Any]
INTERNAL, CLIENT = 1, 3
OK, ERROR = 1, 2
SEVERITIES = {"informational": 9, "low": 10, "medium": 13, "high": 17, "critical": 21}
_SPANS = {
    "egress.http": "http",
    "egress.tcp": "tcp",
    "egress.model": "model",
    "egress.mcp": "mcp",
    "call.ended": "call",
}
_QUIET = frozenset({"run.started", "run.ended", "log.created", "egress.session", "call.started", *_SPANS})


def identity(run: Mapping[str, Any], what: str, size: int) -> str:
    """A trace's or span's id: hex, from the log, the run and what it names."""
    return blake3(
        f"{run['log_id']}/{run['run']}/{what}".encode(), derive_key_context="capsule sessions otlp id"
    ).hexdigest(size)


def traces(run: Mapping[str, Any], events: Iterable[Happened]) -> Json:
    """A session's spans, as one `TracesData`.

    Args:
        run: its row in `runs`, with `log_id`.
        events: its events.
    """
    spans = [_root(run)]
    spans += [span for each in events if each.entry in _SPANS and (span := _span(run, each)) is not None]
    return {
        "resourceSpans": [
            {"resource": _resource(run), "scopeSpans": [{"scope": _scope(run), "spans": spans}]}
        ]
    }


def logs(run: Mapping[str, Any], events: Iterable[Happened]) -> Json:
    """A session's log records, as one `LogsData`."""
    records = [_record(run, each) for each in events if each.entry not in _QUIET or _refused(each.event)]
    return {
        "resourceLogs": [
            {"resource": _resource(run), "scopeLogs": [{"scope": _scope(run), "logRecords": records}]}
        ]
    }


def _nanoseconds(us: int) -> str:
    # 64-bit integers are strings in OTLP/JSON.
    return str(us * 1000)


def attributes(values: Mapping[str, Any]) -> list[Json]:
    """Attributes, in the order given; what is None is left out."""
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": text(value) or str(value)}


def _resource(run: Mapping[str, Any]) -> Json:
    return {
        "attributes": attributes(
            {"service.name": "capsule", "service.version": run["version"], "host.name": run["host"]}
        )
    }


def _scope(run: Mapping[str, Any]) -> Json:
    return {"name": "capsule.sessions", "version": run["version"] or ""}


def _root(run: Mapping[str, Any]) -> Json:
    command = json.loads(run["command"]) if run["command"] else []
    begin = microseconds(run["started"])
    end = microseconds(run["ended"]) if run["ended"] else max(begin, run["last_us"])
    good = run["ended"] is not None and run["code"] == 0
    return {
        "traceId": identity(run, "trace", 16),
        "spanId": identity(run, "run", 8),
        "name": command[0].rpartition("/")[2] if command else run["run"],
        "kind": INTERNAL,
        "startTimeUnixNano": _nanoseconds(begin),
        "endTimeUnixNano": _nanoseconds(end),
        "attributes": attributes({
            "capsule.run": run["run"], "capsule.log": run["log_id"],
            "process.command_line": shlex.join(command) or None,
            "process.working_directory": run["cwd"], "process.exit.code": run["code"], "capsule.cause": run["cause"],
            "capsule.policy": run["policy"], "capsule.policy.digest": run["policy_digest"], "capsule.tier": run["tier"],
            "capsule.denials": run["denials"],
        }),
        "status": {"code": OK} if good else {"code": ERROR, "message": str(run["cause"] or "it has no end on the log")},
    }  # fmt: skip


def _span(run: Mapping[str, Any], each: Happened) -> Json | None:
    kind = _SPANS[each.entry]
    section = each.event if kind == "call" and "call" in each.event else each.event.get(kind)
    if not isinstance(section, dict):
        return None
    end = microseconds(each.time)
    long = section.get("us" if kind == "call" else "duration_us")
    long = long if isinstance(long, int) and 0 <= long <= end else 0
    name, known, client = _NAMES[kind](section)
    refused, error = _refused(each.event), text(section.get("error"))
    decision = each.event.get("decision")
    reason = text(decision.get("reason")) if isinstance(decision, dict) else None
    failed = refused or error is not None
    return {
        "traceId": identity(run, "trace", 16),
        "spanId": identity(run, str(each.seq), 8),
        "parentSpanId": identity(run, "run", 8),
        "name": name,
        "kind": CLIENT if client else INTERNAL,
        "startTimeUnixNano": _nanoseconds(end - long),
        "endTimeUnixNano": _nanoseconds(end),
        "attributes": attributes(
            {**known, "capsule.seq": each.seq, "capsule.refused": True if refused else None}
        ),
        "status": {"code": ERROR, "message": error or reason or "refused"} if failed else {"code": OK},
    }


def _http(http: Json) -> tuple[str, Json, bool]:
    method, answer, body = text(http.get("method")) or "?", http.get("response"), http.get("body")
    return method, {
        "http.request.method": http.get("method"), "server.address": http.get("host"), "server.port": http.get("port"),
        "url.scheme": http.get("scheme"), "url.path": http.get("path"),
        "http.response.status_code": http.get("status"), "network.protocol.version": http.get("version"),
        "http.request.body.size": body.get("size") if isinstance(body, dict) else None,
        "http.response.body.size": answer.get("size") if isinstance(answer, dict) else None,
        "network.peer.address": http.get("address"),
    }, True  # fmt: skip


def _tcp(tcp: Json) -> tuple[str, Json, bool]:
    return f"connect {place_of(tcp)}", {
        "server.address": tcp.get("host"), "server.port": tcp.get("port"), "network.peer.address": tcp.get("address"),
        "capsule.bytes_out": tcp.get("bytes_out"), "capsule.bytes_in": tcp.get("bytes_in"),
    }, True  # fmt: skip


def _model(model: Json) -> tuple[str, Json, bool]:
    # Names of the semantic conventions for generative AI.
    return f"chat {text(model.get('name')) or '?'}", {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": model.get("provider"),
        "gen_ai.request.model": model.get("name"), "gen_ai.usage.input_tokens": model.get("input_tokens"),
        "gen_ai.usage.output_tokens": model.get("output_tokens"), "gen_ai.response.id": model.get("response_id"),
        "gen_ai.response.finish_reasons": [model["stop_reason"]] if text(model.get("stop_reason")) else None,
        "capsule.cached_tokens": model.get("cached_tokens"),
        "capsule.cost_microdollars": model.get("cost_microdollars"),
    }, True  # fmt: skip


def _mcp(mcp: Json) -> tuple[str, Json, bool]:
    name = text(mcp.get("tool")) or text(mcp.get("method")) or "?"
    return f"execute_tool {name}", {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": mcp.get("tool"), "rpc.method": mcp.get("method"),
        "server.address": mcp.get("server"),
    }, True  # fmt: skip


def _call(call: Json) -> tuple[str, Json, bool]:
    return "call", {"capsule.call": call.get("call"), "capsule.outcome": call.get("outcome")}, False


_NAMES = {"http": _http, "tcp": _tcp, "model": _model, "mcp": _mcp, "call": _call}


def _refused(event: Mapping[str, Any]) -> bool:
    decision = event.get("decision")
    return isinstance(decision, dict) and decision.get("action") == "block"


def _record(run: Mapping[str, Any], each: Happened) -> Json:
    rule = each.event.get("rule")
    severity = 13 if _refused(each.event) else 9
    body = subject_of({**each.event, "event": {"type": each.type}})
    if each.entry in {"egress.finding", "guest.finding"} and isinstance(rule, dict):
        severity = SEVERITIES.get(str(rule.get("level")), 13)
        body = text(rule.get("title")) or body
    program = each.event.get("process" if each.entry == "exec" else "program")
    program = program if isinstance(program, dict) else {}
    return {
        "timeUnixNano": _nanoseconds(microseconds(each.time)),
        "severityNumber": severity,
        "body": {"stringValue": f"refused: {body}" if _refused(each.event) else body},
        "attributes": attributes({
            "event.name": f"capsule.{each.entry}", "capsule.run": run["run"], "capsule.seq": each.seq,
            "process.executable.path": program.get("path"), "process.pid": program.get("pid"),
        }),
        "traceId": identity(run, "trace", 16),
        "spanId": identity(run, "run", 8),
    }  # fmt: skip
