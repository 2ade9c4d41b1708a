"""What an event is about, in a few words, for lists. Pure; whoever prints it escapes it.

It refuses nothing: of an event it does not know it says the type.

    subject_of({"event": {"type": "http"}, "http": {"method": "GET", "host": "a.example", "path": "/"}})
    # 'GET a.example/'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from capsule.rules.entry import section, text

Json = Mapping[str, Any]


OURS = "/run/capsule/"
"""What a run with hosts finds inside, whatever its policy reads: authorities, the resolver's address."""


def subject_of(event: Json) -> str:
    """Who did what to what."""
    kind = text(section(event, "event").get("type")) or ""
    own = section(event, kind)
    who = text(section(event, "program").get("name"))
    make = _MAKERS.get(kind)
    what = make(own) if make is not None else ""
    if kind == "denied":
        denial = section(event, "denial")
        what = f"{text(denial.get('operation')) or ''} {text(denial.get('target')) or ''}".strip()
    what = what or kind or "?"
    return f"{who}: {what}" if who and kind != "process" else what


def _join(*parts: Any) -> str:
    return " ".join(shown for part in parts if (shown := text(part)))


def place_of(section: Json) -> str:
    """`host:port` of a tcp section; the address where no name is known."""
    host = text(section.get("host")) or text(section.get("sni")) or text(section.get("address")) or "?"
    return f"{host}:{section['port']}" if isinstance(section.get("port"), int) else host


def _file(file: Json) -> str:
    source = text(file.get("from"))
    return _join(file.get("operation"), source, "→" if source else None, file.get("path"))


_MAKERS: dict[str, Callable[[Json], str]] = {
    "http": lambda http: f"{_join(http.get('method'), http.get('host'))}{text(http.get('path')) or ''}",
    "dns": lambda dns: _join("name", dns.get("name"), dns.get("qtype")),
    "tcp": place_of,
    "model": lambda model: _join(model.get("provider"), model.get("name")),
    "mcp": lambda mcp: _join(mcp.get("server"), mcp.get("method"), mcp.get("tool")),
    "file": _file,
    "process": lambda process: (
        text(process.get("command")) or text(process.get("path")) or text(process.get("name")) or ""
    ),
}
