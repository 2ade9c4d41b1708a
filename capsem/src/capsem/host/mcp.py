"""`--mcp FILE`: the MCP servers that a machine may use, read as strictly as a policy (docs/formats/mcp.md).

Refuses a file with mistakes, naming each with its line, and a policy that is none. A server is never run from here.

    servers_of("mcp.yaml")        # [{"name": "files", "command": ["python3", "files.py"], "policy": "readonly", …}]
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from capsem.errors import UsageError
from capsem.vm.mcp import DEFAULT_POLICY, MOST, NAME, McpServer

_ARGUMENTS = 256
_HTTP = "a server over HTTP is reached through the network: list its host in the machine's policy"


def servers_of(path: str | Path) -> list[dict[str, Any]]:
    """As the service takes them.

    Raises:
        PolicyError: the file, or a policy that it names, is wrong, with every place.
        UsageError: it cannot be read.
    """
    # What reads policies is loaded for a machine with servers.
    from capsule.cli.files import load_policy
    from capsule.policy.document import MAX_BYTES
    from capsule.regular import read_regular

    file = Path(path).expanduser().resolve()
    try:
        data = read_regular(file, most=MAX_BYTES)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", next_step="see --mcp") from None
    servers = parse(data, str(file))
    for policy in dict.fromkeys(server.policy for server in servers):
        load_policy(policy)
    return [dataclasses.asdict(server) for server in servers]


def parse(data: bytes, file: str) -> tuple[McpServer, ...]:
    """The servers that a file declares.

    Args:
        data: its content, untrusted.
        file: its path, absolute.

    Raises:
        PolicyError: with every place that is wrong.
    """
    from capsule.policy.document import Mapping, Node, Scalar, read_document
    from capsule.policy.reader import NodeReader

    reader, found = NodeReader(file), []
    directory = Path(file).parent

    def server(key: Scalar, node: Node) -> None:
        subject = f"the server {key.text}"
        if NAME.fullmatch(key.text) is None:
            reader.refuse(key, f"{key.text[:80]!r} is no server's name", "1 to 63 of a-z, 0-9 and -")
        command: list[str] = []
        policy, where = DEFAULT_POLICY, directory
        changes: Literal["refuse", "pass"] = "refuse"
        for field, value in reader.fields(
            node, subject, ("command", "policy", "directory", "changes"), reserved={"url": _HTTP}
        ):
            if field == "command":
                items = reader.items(value, f"{subject}: command")
                command = [text for item in items if (text := _word(reader, item, subject)) is not None]
                if items and len(items) > _ARGUMENTS:
                    reader.refuse(value, f"{subject}: {len(items)} arguments", f"at most {_ARGUMENTS}")
            elif field == "policy":
                text = reader.text(value, f"{subject}: policy", "a preset's name, or a file")
                named = text is not None and ("/" in text or text.endswith((".yaml", ".yml")))
                policy = str(directory / Path(text or "").expanduser()) if named else text or policy
            elif field == "changes":
                text = reader.text(value, f"{subject}: changes", "refuse or pass")
                if text not in (None, "refuse", "pass"):
                    reader.refuse(value, f"{subject}: changes: {text[:40]!r}", "refuse or pass")
                changes = "pass" if text == "pass" else "refuse"
            else:
                text = reader.text(value, f"{subject}: directory", "a directory")
                where = (directory / Path(text or ".").expanduser()).resolve()
        if not command:
            reader.refuse(key, f"{subject} has no command", "command: [program, argument]")
        found.append(McpServer(key.text, tuple(command), policy, str(where), file, key.line, changes))

    root = read_document(data, file)
    fields = dict(reader.fields(root, "the file", ("version", "servers")))
    if "version" in fields:
        reader.integer(fields["version"], "version", 1, 1)
    else:
        reader.refuse(root, "the file does not say its version", "version: 1")
    servers = fields.get("servers")
    if not isinstance(servers, Mapping) or not servers.entries:
        reader.refuse(servers or root, "the file declares no servers", "servers: {name: {command: [...]}}")
    else:
        for key, node in servers.entries:
            server(key, node)
        if len(servers.entries) > MOST:
            reader.refuse(servers, f"{len(servers.entries)} servers", f"at most {MOST}")
    reader.finish()
    return tuple(found)


def _word(reader: Any, node: Any, subject: str) -> str | None:
    text: str | None = reader.text(node, f"{subject}: an argument", "text")
    if text is not None and "\0" in text:
        reader.refuse(node, f"{subject}: an argument with a null character", "text")
    return text
