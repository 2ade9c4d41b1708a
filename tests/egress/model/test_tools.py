"""What a provider runs itself is among the tools of a call, by its type, whoever the provider is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from capsule.egress.model.call import ModelCall
from capsule.egress.model.shape import MAX_LIST
from capsule.egress.model.tools import declared, kind, offered

SERVER = "https://evil.example/mcp"
MESSAGES, CHAT, RESPONSES = "/v1/messages", "/v1/chat/completions", "/v1/responses"
GENERATE = "/v1beta/models/gemini-x:generateContent"
BODY: dict[str, dict[str, Any]] = {
    MESSAGES: {"messages": []},
    CHAT: {"messages": []},
    RESPONSES: {"input": "x"},
    GENERATE: {"contents": []},
}
OWN = {"type": "function", "function": {"name": "mine"}}


@pytest.mark.parametrize(
    ("path", "fields", "names", "servers"),
    [
        (MESSAGES, {"tools": [{"name": "mine", "input_schema": {}}]}, ["mine"], []),
        (MESSAGES, {"mcp_servers": [{"type": "url", "url": SERVER}]}, ["mcp"], [SERVER]),
        (MESSAGES, {"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, ["mcp_toolset", "mcp"], []),
        (MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ["web_search"], []),
        (MESSAGES, {"tools": [{"type": "web_fetch_20250910", "name": "f"}]}, ["f", "web_fetch"], []),
        (MESSAGES, {"tools": [{"type": "code_execution_20250825"}]}, ["code_execution"], []),
        (MESSAGES, {"tools": [{"type": "brand_new_tool"}]}, ["brand_new_tool"], []),
        (CHAT, {"tools": [OWN, {"type": "custom", "custom": {"name": "two"}}]}, ["mine", "two"], []),
        (CHAT, {"functions": [{"name": "old"}]}, ["old"], []),
        (CHAT, {"web_search_options": {}}, ["web_search"], []),
        (CHAT, {"model": "gpt-4o-search-preview"}, ["web_search"], []),
        (RESPONSES, {"tools": [{"type": "mcp", "server_label": "x", "server_url": SERVER}]}, ["mcp"], [SERVER]),
        (RESPONSES, {"tools": [{"type": "mcp", "connector_id": "mail"}]}, ["mcp"], ["mail"]),
        (RESPONSES, {"tools": [{"type": "web_search_preview_2025_03_11"}]}, ["web_search"], []),
        (RESPONSES, {"tools": [{"type": "file_search"}, {"type": "shell"}]}, ["file_search", "shell"], []),
        (RESPONSES, {"prompt": {"id": "p-1"}}, ["prompt"], []),
        (GENERATE, {"tools": [{"functionDeclarations": [{"name": "mine"}]}]}, ["mine"], []),
        (GENERATE, {"tools": [{"urlContext": {}}, {"google_search": {}}]}, ["url_context", "google_search"], []),
        (GENERATE, {"tools": {"codeExecution": {}}}, ["code_execution"], []),
        (GENERATE, {"tools": [{"mcpServers": [{"streamableHttpTransport": {"url": SERVER}}]}]}, ["mcp"], [SERVER]),
        (GENERATE, {"cachedContent": "cachedContents/1"}, ["cached_content"], []),
    ],
)  # fmt: skip
def test_tools_of_every_api(path: str, fields: dict[str, Any], names: list[str], servers: list[str]) -> None:
    call = ModelCall.begin("x.example", path, json.dumps({**BODY[path], **fields}).encode())
    assert call is not None
    asked = call.asked()
    assert asked["tools"] == names
    assert asked["mcp_servers"] == servers


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [], "tools": [], "tools": [{"type": "mcp"}]}',
        b'{"messages": [], "Tools": [{"type": "mcp"}]}',
        json.dumps({"messages": [], "tools": [OWN] * (MAX_LIST + 1)}).encode(),
        b'{"messages": [], "tools": {"type": "mcp"}}',
        b"\x1f\x8b",
        None,
    ],
)
def test_what_two_readers_may_read_differently_is_not_known(body: bytes | None) -> None:
    """Nothing of the call is told but who is asked, so that a rule that blocks and reads its tools holds."""
    call = ModelCall.begin("api.openai.com", CHAT, body)
    assert call is not None
    assert call.asked() == {"provider": "openai", "api": "chat"}


def test_kinds_and_lists() -> None:
    assert [kind(one) for one in ("bash_20250124", "web_search_preview", "x", "_preview")] == [
        "bash",
        "web_search",
        "x",
        "_preview",
    ]
    assert offered({"tools": [1, None, "x"]}) == offered({})
    assert declared({"tools": [1]}) is None
