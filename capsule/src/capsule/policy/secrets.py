"""The section `secrets`: where a value comes from, to which hosts it goes, and how it is carried.

The policy never holds a value. What it refuses: a program to ask that is not named by its absolute path, headers that
frame or route a request, a `field` where the way of carrying has none, and places that no host entry covers (`merge`).

    secrets: [{name: api, from: {env: TOKEN}, to: [api.example], as: header, field: Authorization, env: TOKEN}]
"""

from __future__ import annotations

import re

from capsule.policy.document import Mapping, Node
from capsule.policy.model import CARRIERS, Edit, SecretEntry, SecretSource
from capsule.policy.network import read_host, secret_name
from capsule.policy.reader import NodeReader

SECRET_KEYS = ("name", "from", "to", "as", "field", "user", "env", "reason")
SOURCE_KEYS = ("env", "file", "keyring", "command", "expires")
TAKES_FIELD = ("header", "query")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
# They say where a request ends or goes; a value in them would be no credential.
_FRAMING = frozenset({
    "host", "connection", "content-length", "content-type", "expect", "keep-alive", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "via",
})  # fmt: skip


def read_secrets(reader: NodeReader, node: Node) -> Edit[SecretEntry]:
    """The list; problems are left with the reader."""
    return reader.edit(
        node,
        lambda item, _: _secret(reader, item),
        "secrets",
        lambda item: secret_name(reader, item, "an entry of secrets.remove") or "",
    )


def _secret(reader: NodeReader, node: Node) -> SecretEntry | None:
    parts = dict(reader.fields(node, "an entry of secrets", SECRET_KEYS))
    missing = [key for key in ("name", "from", "to", "as", "env") if key not in parts]
    if missing:
        if isinstance(node, Mapping):
            reader.refuse(
                node,
                f"a secret has no {missing[0]!r}",
                "{name: …, from: {env: …}, to: [host], as: header, field: …, env: …}",
            )
        return None
    name = secret_name(reader, parts["name"], "a secret's name")
    source = _source(reader, parts["from"])
    to = [read_host(reader, item, "an entry of 'to'") for item in reader.items(parts["to"], "to")]
    if not to:
        reader.refuse(parts["to"], "the secret goes nowhere", "at least one host under 'to'")
    carried = reader.word(parts["as"], "as", CARRIERS)
    env = _variable(reader, parts["env"], "env")
    field = _field(reader, parts, node, carried)
    user = None
    if "user" in parts:
        user = reader.text(parts["user"], "user", "a user's name")
        if carried is not None and carried != "basic":
            reader.refuse(parts["user"], f"'user' beside 'as: {carried}'", "'as: basic'")
        elif user is not None and ":" in user:
            reader.refuse(parts["user"], "a user's name has no ':' in it (RFC 7617)")
    if name is None or source is None or carried is None or env is None or None in to or not to:
        return None
    hosts = tuple(dict.fromkeys(host for host in to if host is not None))
    return SecretEntry(
        name, reader.origin(parts["name"]), source, hosts, carried, env, field, user, reader.reason(parts)
    )


def _field(reader: NodeReader, parts: dict[str, Node], node: Node, carried: str | None) -> str | None:
    if "field" not in parts:
        if carried in TAKES_FIELD:
            reader.refuse(node, f"a secret that goes as {carried!r} has no 'field'", "the name of the field")
        return None
    field = reader.text(parts["field"], "field", "the name of a header or a query field")
    if carried is not None and carried not in TAKES_FIELD:
        reader.refuse(parts["field"], f"'field' beside 'as: {carried}'", "'as: header' or 'as: query'")
    elif field is not None and carried == "header":
        if not _HEADER.fullmatch(field):
            reader.refuse(parts["field"], f"field is {field[:80]!r}", "the name of a header")
        elif field.lower() in _FRAMING:
            reader.refuse(
                parts["field"], f"the header {field} carries no credentials", "Authorization, X-Api-Key, …"
            )
    elif field is not None and (not field or any(ord(char) < 0x20 for char in field)):
        reader.refuse(parts["field"], f"field is {field[:80]!r}", "the name of a query field")
    return field


def _source(reader: NodeReader, node: Node) -> SecretSource | None:
    parts = dict(reader.fields(node, "from", SOURCE_KEYS))
    kinds = [key for key in parts if key != "expires"]
    if len(kinds) != 1:
        if isinstance(node, Mapping):
            reader.refuse(
                node, "'from' names no source, or more than one", "one of env, file, keyring, command"
            )
        return None
    kind = kinds[0]
    if "expires" in parts and kind != "command":
        reader.refuse(parts["expires"], f"'expires' beside {kind!r}", "'command': only its answer expires")
    if kind == "env":
        variable = _variable(reader, parts["env"], "from.env")
        return None if variable is None else SecretSource(kind, env=variable)
    if kind == "file":
        path = reader.path(parts["file"], "from.file", globs=False)
        return None if path is None else SecretSource(kind, file=path)
    if kind == "keyring":
        return _keyring(reader, parts["keyring"])
    return _command(reader, parts)


def _keyring(reader: NodeReader, node: Node) -> SecretSource | None:
    parts = dict(reader.fields(node, "from.keyring", ("service", "user")))
    values = {
        key: reader.text(parts[key], f"keyring.{key}", "a name") if key in parts else None
        for key in ("service", "user")
    }
    if not values["service"] or not values["user"]:
        if isinstance(node, Mapping):
            reader.refuse(node, "a keyring's entry needs both names", "{service: …, user: …}")
        return None
    return SecretSource("keyring", service=values["service"], user=values["user"])


def _command(reader: NodeReader, parts: dict[str, Node]) -> SecretSource | None:
    words: list[str] = []
    for place, item in enumerate(reader.items(parts["command"], "from.command")):
        word = reader.text(item, "an entry of from.command", "a program or an argument")
        if word is None:
            return None
        if place == 0:
            if not word.startswith("/"):
                reader.refuse(
                    item,
                    f"the program {word[:80]!r} is not named by its absolute path",
                    "/usr/bin/…: it runs on the host, outside the sandbox",
                )
                return None
            if reader.path(item, "from.command", globs=False) is None:
                return None
        words.append(word)
    if not words:
        reader.refuse(parts["command"], "from.command is empty", "[/path/to/program, argument, …]")
        return None
    expires = None
    if "expires" in parts:
        expires = reader.quantity(parts["expires"], "from.expires", "duration")
        if expires is None:
            return None
    return SecretSource("command", command=tuple(words), expires=None if expires is None else expires.value)


def _variable(reader: NodeReader, node: Node, subject: str) -> str | None:
    name = reader.text(node, subject, "a variable's name")
    if name is not None and not _VARIABLE.fullmatch(name):
        reader.refuse(node, f"{subject} is {name[:80]!r}", "a variable's name: letters, digits and '_'")
        return None
    return name
