"""Sigma's log sources and field names for Linux → our event types and fields.

A rule is for one log source; each becomes one event type or more (a network connection of Sigma is a `tcp` or
an `http` event of ours). Rules of our own name `product: capsule`, an event type as `category`, and fields as events.md
does. What it refuses: log sources of other systems, and fields that nobody knows. Fields that Sigma knows and our
events never have (users, hashes, sessions) are `NEVER`: a question about them is false, as for any absent field.

    views(product="linux", category="process_creation")[0].find("Image")      # 'process.path'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capsule.rules import event as table
from capsule.rules.detection.predicate import Any, Predicate, Text

# Put together from other fields, where an event is looked at: argv of the program, joined by spaces.
DERIVED: Final[Mapping[str, str]] = {"program.command": "program.argv"}
Found = str | bool
NEVER: Final = "never"


@dataclass(frozen=True, slots=True)
class View:
    """One event type as a log source sees it.

    Attributes:
        type: the event type.
        names: Sigma's field → ours, or a constant (what it would hold for every event of this kind), or NEVER.
        also: what else an event has to be.
        words: the fields that keywords are looked for in.
    """

    type: str
    names: Mapping[str, Found]
    words: tuple[str, ...]
    also: Predicate | None = None

    def find(self, name: str) -> Found | None:
        """What the field of that name is here; None when nobody knows it."""
        if name in self.names:
            return self.names[name]
        section, _, rest = name.partition(".")
        if table.field(name) is not None or name in DERIVED:
            return name if section in {*table.EVENT_SECTIONS, self.type} or name in table.TOP else NEVER
        # http.headers.NAME and below http.body.json
        parent = name
        while "." in parent:
            parent = parent.rpartition(".")[0]
            row = table.field(parent)
            if row is not None:
                return name if row.kind in {"map", "json"} and section == self.type and rest else None
        return None


_PROGRAM: Final[Mapping[str, Found]] = {
    "Image": "program.path",
    "ProcessId": "program.pid",
    "CommandLine": "program.command",
}
_UNKNOWN: Final[Mapping[str, Found]] = dict.fromkeys(
    (
        "User", "LogonId", "LogonGuid", "TerminalSessionId", "IntegrityLevel", "Hashes", "Imphash", "md5",
        "sha1", "sha256",
        "ParentUser", "ParentProcessId", "ParentProcessGuid", "ProcessGuid", "CurrentDirectory",
        "OriginalFileName", "Company",
        "Product", "Description", "FileVersion", "Computer", "Hostname", "UtcTime", "RuleName",
        "CreationUtcTime", "SourceIp",
        "SourcePort", "SourceHostname", "SourceIsIpv6", "src_ip", "src_port", "cs-username", "c-ip",
        "cs-version",
    ),
    NEVER,
)  # fmt: skip
_HTTP: Final[Mapping[str, Found]] = {
    "cs-method": "http.method", "sc-status": "http.status", "c-uri": "http.url", "cs-uri": "http.url",
    "cs-uri-stem": "http.path",
    "c-uri-stem": "http.path", "cs-uri-query": "http.query", "c-uri-query": "http.query",
    "cs-host": "http.host",
    "cs-uri-host": "http.host", "r-dns": "http.host", "dst_ip": "http.address",
    "cs-user-agent": "http.user_agent",
    "c-useragent": "http.user_agent", "cs-referer": "http.headers.referer",
    "cs-referrer": "http.headers.referer",
    "cs-cookie": "http.headers.cookie", "c-uri-port": "http.port", "dst_port": "http.port",
    "cs-bytes": "http.body.size",
    "sc-bytes": "http.response.size", "rs-content-type": "http.response.content_type",
}  # fmt: skip
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "process": ("process.command", "process.path"),
    "file": ("file.path", "file.from"),
    "http": ("http.url", "http.user_agent", "http.body.text"),
    "dns": ("dns.name",),
    "tcp": ("tcp.host", "tcp.sni", "tcp.address"),
    "model": ("model.name", "model.provider"),
    "mcp": ("mcp.method", "mcp.tool", "mcp.server"),
    "websocket": ("websocket.host",),
}


def _view(kind: str, names: Mapping[str, Found], *operations: str) -> View:
    also = (
        Any(tuple(Text("file.operation", (operation,)) for operation in operations)) if operations else None
    )
    return View(kind, {**_UNKNOWN, **names}, _WORDS[kind], also)


_FILE: Final = {**_PROGRAM, "TargetFilename": "file.path", "SourceFilename": "file.from"}
_LINUX: Final[Mapping[str, tuple[View, ...]]] = {
    "process_creation": (
        _view("process", {
            "Image": "process.path", "CommandLine": "process.command", "ProcessId": "process.pid",
            "ParentImage": "program.path", "ParentCommandLine": "program.command",
        }),
    ),
    "file_event": (_view("file", _FILE, "create", "write", "rename", "link"),),
    "file_change": (_view("file", _FILE, "write", "change"),),
    "file_delete": (_view("file", _FILE, "remove"),),
    "file_rename": (_view("file", _FILE, "rename"),),
    "file_access": (_view("file", _FILE, "read"),),
    "network_connection": (
        _view("tcp", {
            **_PROGRAM, "DestinationHostname": "tcp.host", "DestinationIp": "tcp.address",
            "DestinationPort": "tcp.port",
            "Initiated": True, "Protocol": NEVER,
        }),
        _view("http", {
            **_PROGRAM, "DestinationHostname": "http.host", "DestinationIp": "http.address",
            "DestinationPort": "http.port",
            "Initiated": True, "Protocol": NEVER,
        }),
    ),
    "dns_query": (
        _view("dns", {
            **_PROGRAM, "QueryName": "dns.name", "QueryResults": "dns.answer", "QueryStatus": "dns.rcode",
        }),
    ),
    "dns": (
        _view("dns", {
            "query": "dns.name", "record_type": "dns.qtype", "answer": "dns.answer", "answers": "dns.answer",
        }),
    ),
    "proxy": (_view("http", _HTTP),),
    "webserver": (_view("http", _HTTP),),
}  # fmt: skip


def views(product: str | None, category: str | None, service: str | None = None) -> tuple[View, ...]:
    """The event types that the log source means; empty when it means none of ours."""
    if service is not None or category is None:
        return ()
    if product == "capsule":
        return (View(category, {}, _WORDS[category]),) if category in _WORDS else ()
    return _LINUX.get(category, ()) if product in {"linux", None} else ()


def known_categories() -> list[str]:
    """The categories of Sigma for which there are events."""
    return sorted(_LINUX)


def kind_of(path: str) -> str:
    """The kind of one of our fields, also below a mapping."""
    if path in DERIVED:
        return "string"
    while True:
        row = table.field(path)
        if row is not None:
            return row.kind
        path, _, rest = path.rpartition(".")
        above = table.field(path)
        if above is not None and rest:
            return "string" if above.kind == "map" else "json"
        if not path:
            return "string"
