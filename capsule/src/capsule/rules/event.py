"""Every event type and every field of it, once: documentation, declarations and checks are all made from this table.

What it refuses: a field that is not in the table, in a rule as in a rule's tests.

    field("http.host").kind                      # 'string'
    problems_of({"http": {"hots": "x"}})         # ["http.hots: no such field; did you mean 'host'?"]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from capsule.errors import nearest_name

Kind = Literal["string", "int", "double", "bool", "strings", "map", "object", "objects", "json"]
# When a field is known: as something is asked for, with its whole body, with the answer's headers, when it is over.
Moment = Literal["start", "body", "response", "end"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its dotted name under the section, the kind of its value, when it is known, what it says.

    Attributes:
        sure: it is there whenever the moment has come; else only where there is such a thing (a request without a
            query has none).
    """

    name: str
    kind: Kind
    about: str
    at: Moment = "start"
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """One object of an event. In CEL it is one variable."""

    name: str
    about: str
    fields: tuple[Field, ...]


def _section(name: str, about: str, *rows: tuple[str | bool, ...]) -> Section:
    return Section(name, about, tuple(Field(*row) for row in rows))  # type: ignore[arg-type]


SECTIONS: Final[Mapping[str, Section]] = {section.name: section for section in (
    _section("event", "which event this is",
        ("id", "string", "unique on the log of the run", "start", False),
        ("type", "string", "http, dns, tcp, model, mcp, websocket, file or process"),
        ("time", "string", "RFC 3339, UTC", "start", False)),
    _section("program", "the program that tried",
        ("path", "string", "absolute path of the executable", "start", False),
        ("pid", "int", "process id inside the sandbox", "start", False),
        ("argv", "strings", "its arguments, the first is its name", "start", False),
        ("name", "string", "last segment of the path", "start", False)),
    _section("decision", "what was decided; for detection and hunting, not for rules",
        ("action", "string", "allow, block or rewrite", "end"),
        ("by", "string", "grant, rule, ask, budget, secret, address, name, protocol or default", "end"),
        ("rule", "object", "the rule that decided", "end"),
        ("rule.id", "string", "its id", "end"),
        ("rule.file", "string", "the file it is in", "end"),
        ("rule.line", "int", "the line of its id, from 1", "end"),
        ("rule.owner", "string", "user or corp", "end"),
        ("rule.priority", "int", "smaller decides first", "end"),
        ("reason", "string", "one sentence", "end"),
        ("missing", "strings", "fields a rule asked for and did not find", "end"),
        ("allow", "string", "what would allow it, when something would", "end")),
    _section("http", "one HTTP request, and its answer",
        ("id", "string", "names the request on the log"),
        ("method", "string", "upper case as sent"),
        ("scheme", "string", "https or http"),
        ("host", "string", "lower-cased name, or an address"),
        ("port", "int", "of the connection"),
        ("path", "string", "decoded once, without dot segments and query; rules have none when it is ambiguous"),
        ("query", "string", "after the question mark; for rules, letters and digits unescaped", "start", False),
        ("url", "string", "the whole address"),
        ("version", "string", "1.1 or 2"),
        ("headers", "map", "lower-case name → values joined by ', '"),
        ("user_agent", "string", "the user-agent header", "start", False),
        ("content_type", "string", "media type without parameters", "start", False),
        ("body", "object", "the body of the request", "body"),
        ("body.size", "int", "bytes", "body"),
        ("body.text", "string", "the body as text, when it is at most 1 MiB: its first 64 KiB", "body"),
        ("body.truncated", "bool", "whether text is less than the body", "body"),
        ("body.json", "json", "the body, when it is JSON", "body"),
        ("address", "string", "the address that is dialled; at the start of a host that is one", "start", False),
        ("sni", "string", "server name of the TLS handshake", "start", False),
        ("via", "string", "host:port that a CONNECT was sent to, when it came through a tunnel", "start", False),
        ("secret", "strings", "names of the secrets it carries; at the start, in its head"),
        ("redacted", "int", "values of secrets in the answer that became placeholders", "end"),
        ("websocket", "bool", "whether it asks for an upgrade to WebSocket"),
        ("grpc", "bool", "whether its content type is gRPC's"),
        ("status", "int", "of the answer", "response"),
        ("response", "object", "the answer", "response"),
        ("response.headers", "map", "of the answer, as headers", "response"),
        ("response.content_type", "string", "media type of the answer", "response", False),
        ("response.size", "int", "bytes of the answer's body", "end"),
        ("duration_us", "int", "from the first byte in to the last byte out", "end"),
        ("first_byte_us", "int", "until the answer began", "end"),
        ("error", "string", "why there was no answer", "end")),
    _section("dns", "one question",
        ("name", "string", "lower-cased, no trailing dot"),
        ("qtype", "string", "A, AAAA, TXT …"),
        ("transport", "string", "udp or tcp"),
        ("answer", "string", "the address given, if any", "end"),
        ("rcode", "string", "NOERROR, NXDOMAIN …", "end"),
        ("labels", "int", "how many labels the name has"),
        ("length", "int", "characters of the name"),
        ("entropy", "double", "of the longest label, bits a character")),
    _section("tcp", "one connection that was passed through, or refused before HTTP",
        ("host", "string", "the name it was resolved from"),
        ("address", "string", "the address that is dialled; at the start of a host that is one", "start", False),
        ("port", "int", "the port asked for"),
        ("source", "string", "ip:port inside"),
        ("sni", "string", "server name of the TLS handshake", "start", False),
        ("alpn", "strings", "protocols offered", "start", False),
        ("tls", "bool", "whether it began with a TLS handshake"),
        ("via", "string", "host:port that a CONNECT was sent to, when it came through a tunnel", "start", False),
        ("bytes_out", "int", "bytes the program sent", "end"),
        ("bytes_in", "int", "bytes it received", "end"),
        ("duration_us", "int", "how long it was open", "end"),
        ("error", "string", "why it was not, or ended", "end")),
    _section("model", "one call of a language model",
        ("http_id", "string", "the id of its request"),
        ("provider", "string", "anthropic, openai, google or compatible"),
        ("api", "string", "messages, chat, completions, responses or generate"),
        ("name", "string", "the model asked for", "start", False),
        ("stream", "bool", "whether the answer is streamed", "start", False),
        ("system_size", "int", "bytes of the system prompt", "start", False),
        ("messages", "int", "how many messages were sent", "start", False),
        ("tools", "strings", "names of the tools offered; of those that the provider runs, types", "start", False),
        ("mcp_servers", "strings", "servers of MCP and connectors that the provider is to call", "start", False),
        ("max_tokens", "int", "the limit asked for", "start", False),
        ("input_tokens", "int", "billed as input", "end"),
        ("cached_tokens", "int", "read from a cache", "end"),
        ("cache_write_tokens", "int", "written to a cache", "end"),
        ("output_tokens", "int", "generated", "end"),
        ("reasoning_tokens", "int", "of these, for reasoning", "end"),
        ("cost_microdollars", "int", "millionths of a dollar", "end"),
        ("priced", "bool", "whether a price is known", "end"),
        ("stop_reason", "string", "why it ended", "end"),
        ("tool_calls", "objects", "calls asked for: {id, name, arguments_size}", "end"),
        ("tool_results", "strings", "ids of the calls whose results were sent", "start", False),
        ("response_id", "string", "the provider's name for the answer", "end"),
        ("previous", "string", "event id of the turn before", "end"),
        ("error", "string", "the provider's error", "end"),
        ("unknown", "bool", "whether the shape was not understood", "end")),
    _section("mcp", "one JSON-RPC message of MCP",
        ("method", "string", "tools/call, initialize …"),
        ("server", "string", "the host it was sent to"),
        ("tool", "string", "the tool called", "start", False),
        ("direction", "string", "out: of the program; in: of the server"),
        ("request_id", "string", "the id of the message", "start", False),
        ("session", "string", "of Mcp-Session-Id: the first 16 hex digits of its SHA-256", "start", False),
        ("http_id", "string", "the id of the request that carried it"),
        ("arguments", "json", "a map by name, at most 64 KiB as JSON; for rules, not on the log", "start", False),
        ("arguments_size", "int", "bytes", "start", False),
        ("arguments_sha256", "string", "of the arguments as JSON without spaces, in hex", "start", False),
        ("tool_sha256", "string", "of a declared server's tool, as it was listed last, in hex", "start", False),
        ("tool_changed", "bool", "whether that is another than it was listed with first", "start", False),
        ("result_size", "int", "bytes of the result", "end"),
        ("duration_us", "int", "until its answer", "end"),
        ("tools_listed", "int", "tools in an answer to tools/list", "end"),
        ("tools_hidden", "int", "of these, how many the program was not shown", "end"),
        ("hidden", "objects", "the first 64 of these: tool, decision", "end"),
        ("error", "string", "the server's error", "end")),
    _section("websocket", "one WebSocket, when it is over",
        ("http_id", "string", "the id of the request that was upgraded"),
        ("host", "string", "the host it went to"),
        ("messages_out", "int", "of the program", "end"),
        ("bytes_out", "int", "of their payloads", "end"),
        ("messages_in", "int", "of the server", "end"),
        ("bytes_in", "int", "of their payloads", "end"),
        ("close_code", "int", "as it was closed with", "end"),
        ("closed_by", "string", "program, server or capsule", "end"),
        ("duration_us", "int", "from the request to the end", "end"),
        ("error", "string", "how it broke off", "end")),
    _section("file", "something done to a file",
        ("operation", "string", "read, write, create, remove, rename, link or change"),
        ("path", "string", "absolute"),
        ("name", "string", "last segment of the path"),
        ("ext", "string", "after the last dot of the name, without it", "start", False),
        ("from", "string", "the path before a rename or link", "start", False)),
    _section("process", "a program that was started",
        ("path", "string", "absolute path of the executable"),
        ("name", "string", "last segment of the path"),
        ("argv", "strings", "its arguments, the first is its name", "start", False),
        ("command", "string", "argv joined by spaces", "start", False),
        ("pid", "int", "process id inside the sandbox", "start", False)),
)}  # fmt: skip

# Fields of no section.
TOP: Final[Mapping[str, Field]] = {"run": Field("run", "string", "the id of the run", sure=False)}
EVENT_SECTIONS: Final = ("event", "program", "decision")
# What `on` may say → the section that holds it.
TYPES: Final[Mapping[str, str]] = {
    "http": "http", "http_response": "http", "dns": "dns", "tcp": "tcp", "model": "model", "mcp": "mcp",
    "websocket": "websocket", "file": "file", "process": "process",
}  # fmt: skip

_FIELDS: Final[Mapping[str, Field]] = {
    **TOP,
    **{f"{section.name}.{row.name}": row for section in SECTIONS.values() for row in section.fields},
}
_PYTHON: Final[Mapping[str, type]] = {
    "string": str, "int": int, "double": float, "bool": bool, "strings": list, "map": dict, "object": dict,
    "objects": list,
}  # fmt: skip


def field(path: str) -> Field | None:
    """The field of that dotted name, or None."""
    return _FIELDS.get(path)


def fields() -> Iterator[tuple[str, Field]]:
    """Every field with its dotted name."""
    return iter(_FIELDS.items())


def visible(on: str, *, decided: bool = False) -> dict[str, Field]:
    """The fields that an event of type `on` may have when a rule looks at it.

    Args:
        on: a key of TYPES.
        decided: whether the rule looks when everything is over, as detection does.
    """
    moments = {"start", "body"} | ({"response"} if on == "http_response" else set())
    sections = (*EVENT_SECTIONS, TYPES[on])
    return {
        path: row
        for path, row in _FIELDS.items()
        if (path in TOP or path.partition(".")[0] in sections) and (decided or row.at in moments)
    }


def nearest_field(path: str, known: Mapping[str, Field]) -> str | None:
    """The field of the same section that a person most likely meant."""
    section, _, rest = path.partition(".")
    names = [name.partition(".")[2] for name in known if name.startswith(section + ".")]
    return nearest_name(rest, names)


def problems_of(event: Mapping[str, object]) -> list[str]:
    """What is not as this table says, one sentence each; empty when the event is right."""
    found: list[str] = []
    for name, value in event.items():
        if name in TOP:
            if not isinstance(value, str):
                found.append(f"{name}: not a string")
        elif name not in SECTIONS:
            found.append(f"{name}: no such section")
        elif not isinstance(value, dict):
            found.append(f"{name}: not an object")
        else:
            found += _problems_in(name, value)
    return found


def _problems_in(prefix: str, value: Mapping[str, object]) -> Iterator[str]:
    for name, inner in value.items():
        path = f"{prefix}.{name}"
        row = _FIELDS.get(path)
        if row is None:
            nearest = nearest_field(path, _FIELDS)
            yield f"{path}: no such field" + (f"; did you mean {nearest!r}?" if nearest else "")
            continue
        if row.kind == "json":
            continue
        expected = _PYTHON[row.kind]
        right = isinstance(inner, expected) or (expected is float and isinstance(inner, int))
        if not right or (isinstance(inner, bool) and expected is not bool):
            yield f"{path}: not of kind {row.kind}"
        elif row.kind == "object":
            assert isinstance(inner, dict)
            yield from _problems_in(path, inner)
        elif row.kind == "strings" and not all(isinstance(item, str) for item in inner):  # type: ignore[attr-defined]
            yield f"{path}: not a list of strings"
        elif row.kind == "objects" and not all(isinstance(item, dict) for item in inner):  # type: ignore[attr-defined]
            yield f"{path}: not a list of objects"
        elif row.kind == "map" and not all(isinstance(item, str) for item in inner.values()):  # type: ignore[attr-defined]
            yield f"{path}: not a mapping of strings"


def reference() -> str:
    """The table as Markdown, for docs/reference/events.md."""
    parts = ["# Events, field by field\n"]
    parts.append(
        "From the table that rules and detection are compiled against. How events come about: "
        "[the format](../formats/events.md). A field that is not known is absent.\n"
    )
    parts.append(
        "*when*: `start`: known as it is asked for; `body`: with the request's whole body; `response`: with the "
        "answer's headers; `end`: when it is over; *if any*: absent where there is no such "
        "thing, and then a rule that blocks and reads it without `has()` holds. A rule may read what is known when it "
        "decides, detection all.\n"
    )
    for section in (None, *SECTIONS.values()):
        if section is not None:
            types = [name for name, holds in TYPES.items() if holds == section.name]
            parts.append(f"## {section.name}\n")
            seen = (
                f" Event type{'s' if len(types) > 1 else ''}: {', '.join(f'`{name}`' for name in types)}."
                if types
                else ""
            )
            parts.append(f"{section.about[0].upper()}{section.about[1:]}.{seen or ' On every event.'}\n")
        rows = [
            (path, row)
            for path, row in _FIELDS.items()
            if (path in TOP if section is None else path.startswith(f"{section.name}."))
        ]
        lines = [
            f"| `{path}` | {cel_type(path)} | {row.at if row.sure else f'{row.at}, if any'} | {row.about} |"
            for path, row in rows
        ]
        parts.append(
            "\n".join(["| field | type in CEL | when | meaning |", "|---|---|---|---|", *lines]) + "\n"
        )
    return "\n".join(parts)


def cel_type(path: str) -> str:
    """The type of a field as CEL writes it."""
    kinds = {
        "strings": "list(string)", "map": "map(string, string)", "object": "map(string, dyn)",
        "objects": "list(map(string, dyn))", "json": "dyn",
    }  # fmt: skip
    kind = _FIELDS[path].kind
    return kinds.get(kind, kind)
