"""`--mcp FILE`: the MCP servers that a machine may use, read as strictly as a policy (docs/formats/mcp.md).

Refuses a file with mistakes, naming each with its line, a policy that is none, and a server over HTTP that the machine
would not reach. A server is never run from here.

    servers_of("mcp.yaml")        # [{"name": "files", "command": ["python3", "files.py"], "policy": "readonly", …}]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from capsem.errors import UsageError
from capsem.vm.mcp import DEFAULT_POLICY, HEADERS, MOST, NAME, McpServer
from capsem.vm.remote import SECRET, field_problem, parse_address

if TYPE_CHECKING:
    from capsule.errors import Problem
    from capsule.policy.document import Node, Scalar
    from capsule.policy.reader import NodeReader

_ARGUMENTS = 256
_STARTED, _PLACED = ("command", "policy", "directory"), ("url", "headers", "transport")


def servers_of(path: str | Path, network: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """As the service takes them.

    Args:
        path: of the file.
        network: of the machine, as `capsem.host.policy.network_of` gives it; None: it reaches nothing.

    Raises:
        PolicyError: the file, or a policy that it names, is wrong, with every place; the machine would not reach a
            server that is over HTTP, or lacks a secret for it.
        UsageError: it cannot be read.
    """
    # What reads policies is loaded for a machine with servers.
    from capsule.cli.files import load_policy
    from capsule.errors import PolicyError
    from capsule.policy.document import MAX_BYTES
    from capsule.regular import read_regular

    file = Path(path).expanduser().resolve()
    try:
        data = read_regular(file, most=MAX_BYTES)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", next_step="see --mcp") from None
    servers = parse(data, str(file))
    for policy in dict.fromkeys(server.policy for server in servers if server.command):
        load_policy(policy)
    placed = [server for server in servers if server.url]
    if placed and (problems := _unreached(placed, network)):
        raise PolicyError(problems)
    return [{**dataclasses.asdict(server), "headers": dict(server.headers)} for server in servers]


def parse(data: bytes, file: str) -> tuple[McpServer, ...]:
    """The servers that a file declares.

    Args:
        data: its content, untrusted.
        file: its path, absolute.

    Raises:
        PolicyError: with every place that is wrong.
    """
    from capsule.policy.document import Mapping as Section
    from capsule.policy.document import read_document
    from capsule.policy.reader import NodeReader

    reader = NodeReader(file)
    found: list[McpServer] = []
    directory = Path(file).parent

    def server(key: Scalar, node: Node) -> None:
        subject = f"the server {key.text}"
        if NAME.fullmatch(key.text) is None:
            reader.refuse(key, f"{key.text[:80]!r} is no server's name", "1 to 63 of a-z, 0-9 and -")
        given = dict(reader.fields(node, subject, (*_STARTED, *_PLACED, "changes")))
        changes: Literal["refuse", "pass"] = "refuse"
        if (
            "changes" in given
            and reader.word(given["changes"], f"{subject}: changes", ("refuse", "pass")) == "pass"
        ):
            changes = "pass"
        if "url" not in given:
            for name in _PLACED:
                if name in given:
                    reader.refuse(given[name], f"{subject}: {name} without a url", "url: https://HOST/PATH")
            started = _started(reader, key, given, subject, directory)
            found.append(McpServer(key.text, *started, file, key.line, changes))
            return
        for name in _STARTED:
            if name in given:
                reader.refuse(given[name], f"{subject}: {name} beside url", "a command, or a url")
        url, headers = _placed(reader, given, subject)
        older = "transport" in given and reader.word(
            given["transport"], f"{subject}: transport", ("http", "sse")
        )
        transport: Literal["http", "sse"] = "sse" if older == "sse" else "http"
        found.append(McpServer(key.text, (), "", "", file, key.line, changes, url, headers, transport))

    root = read_document(data, file)
    fields = dict(reader.fields(root, "the file", ("version", "servers")))
    if "version" in fields:
        reader.integer(fields["version"], "version", 1, 1)
    else:
        reader.refuse(root, "the file does not say its version", "version: 1")
    servers = fields.get("servers")
    if not isinstance(servers, Section) or not servers.entries:
        reader.refuse(
            servers or root,
            "the file declares no servers",
            "servers: {name: {command: [...]}}, or {url: https://…}",
        )
    else:
        for key, node in servers.entries:
            server(key, node)
        if len(servers.entries) > MOST:
            reader.refuse(servers, f"{len(servers.entries)} servers", f"at most {MOST}")
    reader.finish()
    return tuple(found)


def _started(
    reader: NodeReader, key: Scalar, given: dict[str, Node], subject: str, directory: Path
) -> tuple[tuple[str, ...], str, str]:
    """Command, policy and directory of a server that is a program."""
    command: list[str] = []
    policy, where = DEFAULT_POLICY, directory
    for field, value in given.items():
        if field == "command":
            items = reader.items(value, f"{subject}: command")
            command = [text for item in items if (text := _word(reader, item, subject)) is not None]
            if items and len(items) > _ARGUMENTS:
                reader.refuse(value, f"{subject}: {len(items)} arguments", f"at most {_ARGUMENTS}")
        elif field == "policy":
            text = reader.text(value, f"{subject}: policy", "a preset's name, or a file")
            named = text is not None and ("/" in text or text.endswith((".yaml", ".yml")))
            policy = str(directory / Path(text or "").expanduser()) if named else text or policy
        elif field == "directory":
            text = reader.text(value, f"{subject}: directory", "a directory")
            where = (directory / Path(text or ".").expanduser()).resolve()
    if not command:
        reader.refuse(key, f"{subject} has no command", "command: [program, argument], or url: https://…")
    return tuple(command), policy, str(where)


def _placed(
    reader: NodeReader, given: dict[str, Node], subject: str
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Address and headers of a server that is reached over HTTP."""
    from capsule.policy.document import Mapping as Section

    url = reader.text(given["url"], f"{subject}: url", "https://HOST/PATH") or ""
    secure = True
    try:
        secure = parse_address(url).secure if url else True
    except ValueError as error:
        reader.refuse(given["url"], f"{subject}: {error}", "https://HOST/PATH")
    headers: dict[str, str] = {}
    listed = given.get("headers")
    if listed is not None and not isinstance(listed, Section):
        reader.refuse(listed, f"{subject}: headers", "{NAME: value}")
    for name, node in listed.entries if isinstance(listed, Section) else ():
        value = reader.text(node, f"{subject}: the header {name.text[:64]}", "text")
        problem = None if value is None else field_problem(name.text, value)
        if value is None:
            continue
        if name.text.lower() in headers:
            problem = "a header that stands there twice"
        elif SECRET.search(value) and not secure:
            problem = "a secret, which leaves over TLS only"
        if problem is not None:
            reader.refuse(node, f"{subject}: {name.text[:64]!r}: {problem}")
        headers[name.text.lower()] = value
    if len(headers) > HEADERS:
        reader.refuse(given["headers"], f"{subject}: {len(headers)} headers", f"at most {HEADERS}")
    return url, tuple(headers.items())


def _unreached(servers: Sequence[McpServer], network: Mapping[str, Any] | None) -> list[Problem]:
    """Why servers over HTTP would not be reached from a machine with this network, or lack a secret."""
    # What decides in egress says it here, before a machine is made.
    import msgspec

    from capsem.vm.network import NOTHING
    from capsule.egress.frames import Egress
    from capsule.egress.secrets import SecretSpec
    from capsule.errors import Problem
    from capsule.policy.grants import Grants, Refusal

    plan = msgspec.convert(NOTHING if network is None else network["egress"], Egress)
    grants = Grants(plan)
    secrets = {one.name: SecretSpec(one.name, one.to, one.as_, one.field, one.user) for one in plan.secrets}
    found = []
    for server in servers:
        address = parse_address(server.url)
        refusal = grants.request(address.host, address.port, "POST", address.target)
        asks = plan.unlisted == "ask" and grants.names(address.host) is None
        if isinstance(refusal, Refusal) and not asks:
            found.append(
                (server, f"the machine's policy does not let it be reached: {refusal.reason}", refusal.allow)
            )
        for header, value in server.headers:
            for name in SECRET.findall(value):
                spec = secrets.get(name)
                step = (
                    f"secrets: [{{name: {name}, to: [{address.host}], as: header, field: {header}, from: …}}]"
                )
                if spec is None:
                    found.append((server, f"the machine's policy has no secret {name}", step))
                elif not spec.covers(address.host):
                    found.append((server, f"the secret {name} is not for {address.host}", step))
                elif spec.place != "header" or (spec.field or "").lower() != header:
                    found.append((server, f"the secret {name} does not go into the header {header}", step))
    return [
        Problem(server.file, server.line, 1, f"the server {server.name}: {what}", next_step=step)
        for server, what, step in found
    ]


def _word(reader: NodeReader, node: Node, subject: str) -> str | None:
    text = reader.text(node, f"{subject}: an argument", "text")
    if text is not None and "\0" in text:
        reader.refuse(node, f"{subject}: an argument with a null character", "text")
    return text
