"""The tools of a model call: those that the program runs by their names, those that the provider runs by their types.

Pure. A type's date is left out (`web_search_20250305` is `web_search`), a kind that is not known stands under its own
type. Refuses, as None, lists that are too long to be looked at: then nothing is known of the call's tools.

    offered([{"type": "mcp", "server_url": "https://x.example"}])    # Tools(("mcp",), ("https://x.example",))
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from capsule.egress.model.shape import MAX_LIST, Request, size, text, under

_DATE: Final = re.compile(r"(_preview)?(_\d{8}|_\d{4}_\d{2}_\d{2})?$")
_OWN: Final = frozenset({"function", "custom", "namespace"})
# Keys that bring tools of the provider along, by the name under which they are told.
_BESIDE: Final = {
    "mcp_servers": "mcp", "web_search_options": "web_search", "prompt": "prompt", "cachedContent": "cached_content",
    "cached_content": "cached_content", "container": "container",
    "plugins": "plugins", "search_parameters": "web_search", "enable_search": "web_search",
}  # fmt: skip
SEEN: Final = frozenset({*_BESIDE, "tools", "functions", "model", "messages", "input", "contents"})
"""Keys of a request whose other spellings some servers read as the same."""
_LETTER: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_DECLARED: Final = ("functionDeclarations", "function_declarations")


@dataclass(frozen=True, slots=True)
class Tools:
    """What is offered.

    Attributes:
        names: of the tools, each once.
        servers: addresses of servers of MCP, or names of connectors, that the provider is to call.
    """

    names: tuple[str, ...]
    servers: tuple[str, ...] = ()


def kind(untrusted_type: str) -> str:
    """A type without its date."""
    return _DATE.sub("", untrusted_type) or untrusted_type


def offered(untrusted: Mapping[str, Any]) -> Tools | None:
    """The tools of a request to Anthropic, OpenAI or a server that speaks as they do."""
    names: list[str | None] = []
    servers: list[str | None] = []
    names += _beside(untrusted)
    listed = [under(untrusted, key) or [] for key in ("tools", "functions", "mcp_servers")]
    if not all(isinstance(found, list) and len(found) <= MAX_LIST for found in listed):
        return None
    tools, functions, given = listed
    for tool in tools:
        said = text(tool, "type")
        own = said is None or said in _OWN
        names += [text(tool, "function", "name"), text(tool, "custom", "name"), text(tool, "name")]
        names += [] if own or said is None else [kind(said)]
        if said in {"mcp", "mcp_toolset"}:
            names.append("mcp")
            servers += [text(tool, "server_url"), text(tool, "connector_id")]
    names += [text(function, "name") for function in functions]
    servers += [text(server, "url") for server in given]
    if "-search" in (text(untrusted, "model") or ""):
        names.append("web_search")  # these models search whatever is offered
    return Tools(_once(names), _once(servers))


def prompted(untrusted: Mapping[str, Any], most: int | None, *, stream: bool) -> Request | None:
    """A request that goes on from a prompt, which is no tool here; None when it has none."""
    prompt = under(untrusted, "prompt")
    tools = offered({key: value for key, value in untrusted.items() if key != "prompt"})
    if not isinstance(prompt, str | list) or tools is None:
        return None
    return Request(
        name=text(untrusted, "model"),
        stream=stream,
        system_size=size(under(untrusted, "system")),
        messages=(prompt,),
        tools=tools.names,
        servers=tools.servers,
        max_tokens=most,
    )


def declared(untrusted: Mapping[str, Any]) -> Tools | None:
    """The tools of a request to Google: functions are declared, every other key is a tool of the provider's."""
    names: list[str | None] = [*_beside(untrusted)]
    servers: list[str | None] = []
    tools = under(untrusted, "tools") or []
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list) or len(tools) > MAX_LIST:
        return None
    for tool in tools:
        if not isinstance(tool, dict) or len(tool) > MAX_LIST:
            return None
        for key, value in tool.items():
            entries = value if isinstance(value, list) else [value]
            if len(entries) > MAX_LIST:
                return None
            if key in _DECLARED:
                names += [text(entry, "name") for entry in entries]
                continue
            name = _LETTER.sub(r"_\1", key).lower()[:64]
            names.append("mcp" if name == "mcp_servers" else name)
            if name == "mcp_servers":
                servers += [
                    text(entry, part, "url")
                    for entry in entries
                    for part in ("streamableHttpTransport", "streamable_http_transport")
                ]
    return Tools(_once(names), _once(servers))


def _beside(untrusted: Mapping[str, Any]) -> list[str]:
    # An empty object asks for the tool with what is usual.
    return [told for key, told in _BESIDE.items() if untrusted.get(key) not in (None, False, [])]


def _once(found: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in found if name))
