"""Three providers of models on one port of loopback: each answers one turn as its own does, and remembers what came.

with Models(directory, keys={"api.anthropic.com": "sk-…"}) as models:
    models.port, models.authority, models.heard
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.egress.certificates import make

ANTHROPIC, OPENAI, GOOGLE = "api.anthropic.com", "api.openai.com", "generativelanguage.googleapis.com"
WORD = "quokka-7731"
"""What every model answers."""
INPUT, OUTPUT = 1234, 17
"""Tokens of every call."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One request that reached a provider."""

    host: str
    method: str
    path: str
    key: str
    head: str
    body: str


class Models:
    """The server; requests under a wrong key get 401, as from the real ones.

    `wants`: tools that a model calls one after another, with their input, where a request offers them; `SERVER__TOOL`,
    before which each client puts something of its own.
    """

    def __init__(self, directory: Path, keys: Mapping[str, str]) -> None:
        self.keys = keys
        self.wants: list[tuple[str, dict[str, Any]]] = []
        self.heard: list[Heard] = []
        root = make("models")
        self.authority = root.write(directory, "models-authority")[0]
        certificate, key = make("server", root, names=tuple(keys)).write(directory, "models")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"models": self}))
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def calls(self, host: str) -> list[Heard]:
        """The model calls among what one of them heard."""
        ends = ("/v1/messages", "/v1/responses", ":streamGenerateContent", ":generateContent")
        return [one for one in self.heard if one.host == host and one.path.partition("?")[0].endswith(ends)]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the handshake has made no request, and only requests are remembered."""


class _Handler(BaseHTTPRequestHandler):
    models: Models

    def do_GET(self) -> None:
        if self._noted(""):
            self._answer(404, {"error": {"message": "there is no such thing"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode("utf-8", "replace")
        if not self._noted(body):
            return
        path = self.path.partition("?")[0]
        if path.endswith("/v1/messages") and json.loads(body).get("stream"):
            self._stream(_messages(json.loads(body), self.models.wants))
        elif path.endswith("/v1/messages/count_tokens"):
            self._answer(200, {"input_tokens": INPUT})
        elif path.endswith("/v1/responses"):
            self._stream(_responses(json.loads(body), self.models.wants))
        elif path.endswith(":streamGenerateContent"):
            self._stream([_generated(json.loads(body), self.models.wants)])
        elif path.endswith(":generateContent"):
            self._answer(200, _generated(json.loads(body), self.models.wants))
        else:
            self._answer(404, {"error": {"message": "there is no such thing"}})

    def _noted(self, body: str) -> bool:
        """Remember the request; False when its key is wrong, which it has then been told."""
        host = self.headers.get("host", "").partition(":")[0]
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        key = self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or bearer
        self.models.heard.append(Heard(host, self.command, self.path, key, str(self.headers), body))
        if key == self.models.keys[host]:
            return True
        self._answer(401, {"error": {"message": "wrong key"}})
        return False

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: list[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """What was heard is in `heard`."""


def results(request: dict[str, Any]) -> list[dict[str, Any]]:
    """What tools answered, as far as a request of Anthropic's tells."""
    said = [message["content"] for message in request["messages"] if isinstance(message["content"], list)]
    return [block for blocks in said for block in blocks if block.get("type") == "tool_result"]


def _messages(request: dict[str, Any], wants: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """https://docs.anthropic.com: streaming messages."""
    done = len(results(request))
    offered = {tool.get("name") for tool in request.get("tools", ())}
    wanted = wants[done] if done < len(wants) and wants[done][0] in offered else None
    block: dict[str, Any] = {"type": "text", "text": ""}
    deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": piece} for piece in (WORD[:4], WORD[4:])]
    if wanted is not None:
        name, given = wanted
        block = {"type": "tool_use", "id": f"toolu_{done}", "name": name, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(given)}]
    usage = {"input_tokens": INPUT, "output_tokens": 1}
    start = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn" if wanted is None else "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": OUTPUT},
        },
        {"type": "message_stop"},
    ]


def openai_results(request: dict[str, Any]) -> list[str]:
    """What tools answered, as far as a request to OpenAI tells."""
    return [
        json.dumps(item["output"]) for item in request["input"] if item.get("type") == "function_call_output"
    ]


def openai_tools(request: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The functions that a request to OpenAI offers: the whole name of each, and how it is called by."""
    found = {}
    for tool in request.get("tools", ()):
        for one in tool["tools"] if tool["type"] == "namespace" else [tool]:
            name = str(one.get("name"))
            found[name if one is tool else f"{tool['name']}__{name}"] = {
                "name": name, **({} if one is tool else {"namespace": tool["name"]}),
            }  # fmt: skip
    return found


def google_results(request: dict[str, Any]) -> list[str]:
    """What tools answered, as far as a request to Google tells."""
    parts = [part for content in request["contents"] for part in content.get("parts", ())]
    return [json.dumps(part["functionResponse"]["response"]) for part in parts if "functionResponse" in part]


def google_tools(request: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The functions that a request to Google offers: the whole name of each, and how it is called by."""
    tools = [one for tool in request.get("tools", ()) for one in tool.get("functionDeclarations", ())]
    return {one["name"]: {"name": one["name"]} for one in tools}


def _wanted(
    done: int, offered: dict[str, dict[str, str]], wants: list[tuple[str, dict[str, Any]]]
) -> tuple[dict[str, str], dict[str, Any]] | None:
    """The tool that is called next, and with what."""
    if done >= len(wants):
        return None
    server, _, tool = wants[done][0].rpartition("__")
    server = server.removeprefix("mcp__")
    fits = [how for name, how in offered.items() if server in name and name.endswith(tool)]
    return (fits[0], wants[done][1]) if fits else None


def _responses(request: dict[str, Any], wants: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """https://platform.openai.com/docs: streaming responses."""
    done = len(openai_results(request))
    wanted = _wanted(done, openai_tools(request), wants)
    text = {"type": "output_text", "text": WORD, "annotations": []}
    item = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [text]}
    if wanted is not None:
        item = {
            "type": "function_call", "id": f"fc_{done}", "call_id": f"call_{done}", "status": "completed",
            **wanted[0], "arguments": json.dumps(wanted[1]),
        }  # fmt: skip
    begun = {
        "id": "resp_1",
        "object": "response",
        "status": "in_progress",
        "model": request["model"],
        "output": [],
    }
    usage = {
        "input_tokens": INPUT, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": OUTPUT, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT + OUTPUT,
    }  # fmt: skip
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    return [
        {"type": "response.created", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, **({"content": []} if wanted is None else {"arguments": ""})},
        },
        *(
            {"type": "response.output_text.delta", **where, "delta": piece}
            for piece in (WORD[:4], WORD[4:])
            if wanted is None
        ),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": {**begun, "status": "completed", "output": [item], "usage": usage},
        },
    ]


def _generated(request: dict[str, Any], wants: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """https://ai.google.dev/api: one answer of generateContent, which is a stream's only one here."""
    wanted = _wanted(len(google_results(request)), google_tools(request), wants)
    part: dict[str, Any] = {"text": WORD}
    if wanted is not None:
        part = {"functionCall": {**wanted[0], "args": wanted[1]}}
    content = {"role": "model", "parts": [part]}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "totalTokenCount": INPUT + OUTPUT,
        },
        "modelVersion": "gemini-2.5-flash",
    }  # fmt: skip
