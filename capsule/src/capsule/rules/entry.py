"""From an entry of a log to the event that rules, detection and hunting look at (docs/formats/events.md). Pure.

Entries of egress, and of what is asked of a machine, are events already, beside the log's own five members. Those of
a run get the sections an event has.
It refuses nothing: an entry of a type it does not know is its own event, under its own type.

    kind, event = event_of({"type": "exec", "pid": 2, "program": "/bin/ls", "argv": ["ls"], …})
    kind, event["process"]["command"]       # 'process', 'ls'
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

LOG_MEMBERS = frozenset({"seq", "time", "mono", "run", "type"})
EGRESS = {
    "egress.http": "http",
    "egress.dns": "dns",
    "egress.tcp": "tcp",
    "egress.model": "model",
    "egress.mcp": "mcp",
    "egress.websocket": "websocket",
}
MACHINE = {"machine.exec": "process", "machine.file": "file"}
"""What is asked of a machine: events too, decided before they happened."""
GUEST = {"guest.process": "process", "guest.file": "file"}
"""What a machine says of itself (`reported_by`): events too, that happened as far as it is to be believed."""
_EVENTS = EGRESS | MACHINE | GUEST
FILE_OPERATIONS = frozenset({"read", "write", "create", "remove", "rename", "link", "change"})
NETWORK_OPERATIONS = frozenset({"connect", "bind", "send"})

Json = dict[str, Any]


def event_of(entry: Mapping[str, Any]) -> tuple[str, Json]:
    """The event's type, and the event: the entry without what the log itself added, in sections.

    Args:
        entry: all members of one entry.
    """
    kind = entry["type"]
    make = _RUN_ENTRIES.get(kind)
    if make is not None:
        name, sections = make(entry)
        return name, {"event": {"type": name, "time": entry["time"]}, **sections}
    return _EVENTS.get(kind, kind), {key: value for key, value in entry.items() if key not in LOG_MEMBERS}


def text(value: Any) -> str | None:
    """A string of the log as text; of bytes that are not UTF-8 (`{"bytes": BASE64}`) those are escaped."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("bytes"), str):
        try:
            return base64.b64decode(value["bytes"], validate=True).decode("utf-8", "backslashreplace")
        except (binascii.Error, ValueError):
            return None
    return None


def words(value: Any) -> list[str]:
    """A list of strings of the log as texts; what is no string is left out."""
    return [shown for item in value if (shown := text(item)) is not None] if isinstance(value, list) else []


def seconds(value: Any) -> str | None:
    """A whole number of milliseconds as a person reads it; nothing else is one, nor what no clock counts to."""
    return f"{value / 1000:g} s" if isinstance(value, int) and abs(value) < 1 << 53 else None


def section(event: Mapping[str, Any], name: str) -> Json:
    """A section of an event or entry; empty where it has none."""
    found = event.get(name)
    return found if isinstance(found, dict) else {}


def _program(entry: Mapping[str, Any], *, argv: list[str] | None = None) -> Json:
    path = text(entry.get("program"))
    program: Json = {}
    if path is not None:
        program |= {"path": path, "name": path.rpartition("/")[2]}
    if isinstance(entry.get("pid"), int):
        program["pid"] = entry["pid"]
    if argv:
        program["argv"] = argv
    return program


def _process(entry: Mapping[str, Any]) -> tuple[str, Json]:
    """A program that starts; `program` is the one that started it, where the log says which."""
    argv = words(entry.get("argv"))
    process = _program(entry, argv=argv)
    if argv:
        process["command"] = " ".join(argv)
    parent = entry.get("parent")
    if not isinstance(parent, dict):
        return "process", {"process": process}
    return "process", {"program": _program(parent, argv=words(parent.get("argv"))), "process": process}


def _path(path: str) -> Json:
    name = path.rpartition("/")[2]
    stem, dot, ext = name.rpartition(".")
    return {"path": path, "name": name, **({"ext": ext} if dot and stem else {})}


def _file(entry: Mapping[str, Any]) -> tuple[str, Json]:
    file: Json = {"operation": text(entry.get("operation")) or entry["type"]}
    target, source = text(entry.get("target")), text(entry.get("from"))
    if target is not None:
        file |= _path(target)
    if source is not None:
        file["from"] = source
    return "file", {"program": _program(entry), "file": file}


def address_of(target: str) -> Json:
    """`tcp:1.2.3.4:443`, `udp:…` or `unix:/run/x` as the fields of a tcp event."""
    kind, _, rest = target.partition(":")
    if kind == "unix":
        return {"address": target}
    host, colon, port = rest.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= 5):
        return {"address": target}
    return {"address": host.removeprefix("[").removesuffix("]"), "port": int(port)}


def _connect(entry: Mapping[str, Any]) -> tuple[str, Json]:
    tcp = address_of(text(entry.get("target")) or "")
    errno = text(entry.get("errno"))
    return "tcp", {"program": _program(entry), "tcp": {**tcp, **({"error": errno} if errno else {})}}


def _denied(entry: Mapping[str, Any]) -> tuple[str, Json]:
    operation, target = text(entry.get("operation")) or "", text(entry.get("target")) or ""
    program = _program(entry)
    sections: Json
    if operation in FILE_OPERATIONS:
        name, sections = "file", {"file": {"operation": operation, **_path(target)}}
    elif operation == "execute":
        name, sections = "process", {"process": {"path": target, "name": target.rpartition("/")[2]}}
    elif operation in NETWORK_OPERATIONS:
        name, sections = "tcp", {"tcp": address_of(target)}
    else:
        name, sections = "denied", {}
    denial = {key: value for key, value in entry.items() if key not in LOG_MEMBERS}
    rule = entry.get("rule")
    decision: Json = {"action": "block", "by": "default" if not isinstance(rule, dict) else "grant"}
    if isinstance(rule, dict):
        decision["rule"] = {key: rule[key] for key in ("file", "line") if key in rule}
        decision["reason"] = rule.get("text")
    return name, {"program": program, **sections, "decision": decision, "denial": denial}


def _call(entry: Mapping[str, Any]) -> tuple[str, Json]:
    call = {key: value for key, value in entry.items() if key not in LOG_MEMBERS}
    name = text(entry.get("function")) or text(entry.get("tool"))
    return "process", {"process": {"name": name} if name else {}, "call": call}


_RUN_ENTRIES = {
    "exec": _process,
    "write": _file,
    "read": _file,
    "connect": _connect,
    "denied": _denied,
    "call.started": _call,
}
