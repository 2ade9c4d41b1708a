"""The JSON Schema (2020-12) of policies, for editors: completion, hovers, red lines while typing.

The parser decides; this says less than the parser in a few places (paths, duplicate keys) and never more:
what the parser accepts validates here.

    policy_schema(("workspace",), ("files",))["properties"]["version"]        # {'const': 1, …}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from capsule.policy.model import (
    AUDIT_LEVELS,
    BUDGET_KINDS,
    CARRIERS,
    CONDITION_OPERATORS,
    INSPECTION,
    LAYERS,
    LIMIT_KINDS,
    NETWORK_MODES,
)
from capsule.policy.quantities import EXPECTED, MAX_INTEGER
from capsule.policy.sections import ERRNOS

Schema = dict[str, Any]

_PATH: Schema = {
    "type": "string",
    "minLength": 1,
    "not": {"pattern": r"(^|/)\.\./|(^|/)\.\.$|\$[A-Za-z_{(]|\\"},
}
_GRANT_PATH: Schema = {"allOf": [{"$ref": "#/$defs/path"}, {"not": {"pattern": r"[*?\[]"}}]}
_REASON: Schema = {"type": "string", "description": "Why; shown in explanations and reports."}
_QUANTITY: dict[str, Schema] = {
    "size": {"type": "string", "pattern": "^(none|[1-9][0-9]*([kMGT]?B|[KMGT]iB))$"},
    "duration": {"type": "string", "pattern": "^(none|[1-9][0-9]*(ms|s|m|h))$"},
    "count": {"oneOf": [{"type": "integer", "minimum": 1}, {"const": "none"}]},
    "money": {"type": "string", "pattern": r"^(none|(0|[1-9][0-9]*)(\.[0-9]{1,6})?)$"},
}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_HOST: Schema = {
    "type": "string",
    "pattern": r"^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$",
    "description": "A name, '*.' and a name, or an IPv4 address.",
}
_SECRET_NAME: Schema = {"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,31}$"}
_VARIABLE: Schema = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}


def policy_schema(presets: Iterable[str], groups: Iterable[str]) -> Schema:
    """The schema.

    Args:
        presets: names for completion under `extends`.
        groups: names of the system call groups that may be granted.
    """
    sections = _sections(tuple(groups))
    example = _record(
        {
            "read": _GRANT_PATH,
            "write": _GRANT_PATH,
            "execute": _GRANT_PATH,
            "connect": {"type": "string", "pattern": "^(tcp:.+:[0-9]+|unix:.+)$"},
            "request": {"type": "string", "pattern": "^([A-Z]+ )?https?://[^ ]+$"},
            "syscall": {"type": "string", "pattern": "^[A-Za-z0-9_]+$"},
            "env": {"type": "string", "pattern": "^[A-Za-z0-9_]+$"},
        }
    ) | {"minProperties": 1, "maxProperties": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Capsule policy",
        "description": "What one command, or one tool call, may do.",
        "$defs": {
            "path": _PATH,
            "grant": _entry({"optional": {"type": "boolean"}}, _GRANT_PATH),
            "sections": sections,
        },
        "type": "object",
        "required": ["version"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": 1, "description": "The version of the language."},
            "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
            "extends": {
                "type": "array",
                "uniqueItems": True,
                "items": {
                    "type": "string",
                    "anyOf": [{"enum": sorted(presets)}, {"pattern": r"\.ya?ml$"}],
                    "description": "A preset, or a file relative to this one.",
                },
            },
            **sections["properties"],
            "tools": {
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"},
                "additionalProperties": {"$ref": "#/$defs/sections"},
            },
            "examples": _record({"allow": _array(example), "deny": _array(example)}),
        },
    }


def _sections(groups: tuple[str, ...]) -> Schema:
    grant = {"$ref": "#/$defs/grant"}
    pattern = _entry({}, {"$ref": "#/$defs/path"})
    place = _entry({}, _GRANT_PATH)
    name: Schema = {"type": "string", "pattern": "^[a-z0-9_-]{1,64}$"}
    integer = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
    condition = _record(
        {
            "arg": {"type": "integer", "minimum": 0, "maximum": 5},
            "op": {"enum": list(CONDITION_OPERATORS)},
            "value": integer,
            "mask": integer,
        },
        required=["arg", "op", "value"],
    )
    allow = _named(name, {"when": {"type": "array", "items": condition, "minItems": 1}})
    deny = _named(name, {"errno": {"enum": list(ERRNOS)}})
    program = _entry({"digest": {"type": "string", "pattern": "^blake3:[0-9a-f]{64}$"}}, _GRANT_PATH)
    variable: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_*?]+$"}
    limits = {
        key: _QUANTITY[kind] | {"description": f"Give {EXPECTED[kind]}."} for key, kind in LIMIT_KINDS.items()
    }
    return _record(
        {
            "filesystem": _record(
                {
                    "read": _edit(grant),
                    "write": _edit(grant),
                    "execute": _edit(grant),
                    "deny": _edit(pattern),
                    "protect": _edit(pattern),
                    "private": _edit(place),
                    "hide": _edit(place),
                }
            ),
            "network": _network(grant),
            "secrets": _edit(_secret()),
            "rules": _edit(place),
            "detect": _edit({"allOf": [{"type": "string", "minLength": 1}, {"not": {"pattern": r"[*?\[]"}}]}),
            "syscalls": _record(
                {"groups": _edit({"enum": list(groups)}), "allow": _edit(allow), "deny": _edit(deny)}
            ),
            "process": _record({"programs": {"anyOf": [{"const": "any"}, _edit(program)]}}),
            "env": _record(
                {
                    "pass": _edit(variable),
                    "set": {
                        "type": "object",
                        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                        "additionalProperties": {"type": ["string", "null"]},
                    },
                    "scrub": _edit(variable),
                }
            ),
            "limits": _record(limits),
            "require": _edit({"enum": list(LAYERS)}),
            "audit": {"enum": list(AUDIT_LEVELS)},
        }
    )


def _network(grant: Schema) -> Schema:
    host = _record(
        {
            "host": _HOST,
            "ports": _array(_PORT) | {"minItems": 1, "description": "TCP ports; 443 and 80 when absent."},
            "methods": _array({"type": "string", "pattern": "^[^a-z ]{1,32}$"})
            | {"minItems": 1, "description": "HTTP methods; any when absent."},
            "paths": _array({"type": "string", "pattern": r"^/[^?#%\\]*$"})
            | {"minItems": 1, "description": "Globs over the whole path; any when absent."},
            "inspect": {"enum": list(INSPECTION), "description": "When the content is looked at."},
            "private": {"type": "boolean", "description": "May lead to addresses that are not public."},
            "credential": _SECRET_NAME | {"description": "The secret that requests have to carry."},
            "reason": _REASON,
        },
        ["host"],
    )
    upstream = _record(
        {
            "host": _HOST,
            "address": {"type": "string", "pattern": r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]+$"},
            "reason": _REASON,
        },
        ["host", "address"],
    )
    budget = {
        key: _QUANTITY[kind] | {"description": f"Give {EXPECTED[kind]}."}
        for key, kind in BUDGET_KINDS.items()
    }
    return _record(
        {
            "mode": {"enum": list(NETWORK_MODES)},
            "ports": _edit(_PORT),
            "unix": _edit(grant),
            "hosts": _edit({"anyOf": [_HOST, host]}),
            "unlisted": {
                "enum": ["deny", "ask"],
                "description": "What happens to names that are not listed.",
            },
            "budget": _record(budget),
            "upstreams": _edit(upstream),
            "authorities": _edit(grant),
            "proxy": {"type": ["string", "null"], "pattern": "^http://"},
        }
    )


def _secret() -> Schema:
    name: Schema = {"type": "string", "minLength": 1}
    source = _record(
        {
            "env": _VARIABLE,
            "file": _GRANT_PATH,
            "keyring": _record({"service": name, "user": name}, ["service", "user"]),
            "command": _array({"type": "string"}) | {"minItems": 1},
            "expires": _QUANTITY["duration"],
        }
    ) | {"minProperties": 1, "maxProperties": 2}
    return _record(
        {
            "name": _SECRET_NAME,
            "from": source,
            "to": _array(_HOST) | {"minItems": 1, "description": "The hosts it goes to."},
            "as": {"enum": list(CARRIERS), "description": "Where in a request it is."},
            "field": name,
            "user": {"type": "string"},
            "env": _VARIABLE | {"description": "The variable that holds its placeholder."},
            "reason": _REASON,
        },
        ["name", "from", "to", "as", "env"],
    )


def _record(properties: dict[str, Schema], required: list[str] | None = None) -> Schema:
    found: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return found | {"required": required} if required else found


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items, "maxItems": 4096}


def _edit(items: Schema) -> Schema:
    # What `remove` names is an entry in its short form.
    removed = {"type": ["string", "integer"]}
    return {
        "anyOf": [
            _array(items),
            _record({"replace": _array(items)}, ["replace"]),
            _record({"remove": _array(removed), "add": _array(items)}) | {"minProperties": 1},
        ]
    }


def _entry(more: dict[str, Schema], path: Schema) -> Schema:
    return {"anyOf": [path, _record({"path": path, **more, "reason": _REASON}, ["path"])]}


def _named(name: Schema, more: dict[str, Schema]) -> Schema:
    return {"anyOf": [name, _record({"name": name, **more, "reason": _REASON}, ["name"])]}
