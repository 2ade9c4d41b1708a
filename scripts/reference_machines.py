"""Pages of docs/reference on machines: `capsem` verb by verb, its Python API, and what its service offers over HTTP.

Refuses to write a page of which a part is missing: a verb without an example ends it. Where capsem cannot be installed
(Python before 3.12) there is nothing to ask, and importing this module fails.

    page = command_line()
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import click

import capsem
from capsem import errors
from capsem.cli.main import root
from capsem.processes.service.app import build
from capsem.processes.service.registry import Registry
from scripts import reference
from scripts.reference import MADE, ROOT, describe

SDK = ROOT / "capsem/src/capsem/sdk"
PARTS = (
    "Commands",
    "CommandHandle",
    "ProcessInfo",
    "Files",
    "EntryInfo",
    "WatchHandle",
    "FilesystemEvent",
    "FilesystemEventType",
    "Pty",
    "PtyHandle",
    "PtySize",
    "Workspace",
    "Applied",
)
"""Classes that a program meets as attributes or results, in the order in which it meets them."""


def help_of(words: tuple[str, ...]) -> str:
    """What `capsem WORDS --help` prints, at 80 columns.

    Raises:
        RuntimeError: it fails.
    """
    return reference.help_of(words, "capsem")


def verbs() -> Iterator[tuple[str, ...]]:
    """Every verb, and each one's own verbs after it."""

    def within(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            yield (*words, name)
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from within(command, (*words, name))

    yield from within(root, ())


def command_line() -> str:
    """docs/reference/capsem.md: every verb's help, as printed, with an example.

    Raises:
        RuntimeError: a verb has no example.
    """
    parts = [MADE, "# capsem\n", f"```\n{help_of(())}\n```\n"]
    for words in verbs():
        text = help_of(words)
        group = "\nCommands:\n" in text
        if not group and not re.search(r"^ *examples?: .*\bcapsem ", text, re.IGNORECASE | re.MULTILINE):
            raise RuntimeError(f"capsem {' '.join(words)}: no example in its help")
        parts.append(f"{'#' * (len(words) + 1)} capsem {' '.join(words)}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def _classes(paths: Iterable[Path]) -> dict[str, ast.ClassDef]:
    found: dict[str, ast.ClassDef] = {}
    for path in paths:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, node)
    return found


def python() -> str:
    """docs/reference/capsem-python.md: the names of `capsem.__all__`, and the classes that they lead to."""
    paths = sorted(SDK.glob("*.py"))
    where = _classes([SDK / "sandbox.py", *paths])
    awaited = _classes(path for path in paths if path.name != "sandbox.py")

    def full(owner: str, name: str) -> str | None:
        """What the class to be awaited says of a method: it has the arguments, and what is raised."""
        other = awaited.get(f"Async{owner}") or awaited.get(owner)
        for node in other.body if other else ():
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name == name
                and ast.get_docstring(node)
            ):
                return ast.get_docstring(node)
        return None

    exported = sorted(capsem.__all__)
    parts = [
        MADE,
        "# The Python API of machines\n",
        f"```python\nfrom capsem import {', '.join(exported)}\n```\n",
    ]
    parts.append("`AsyncSandbox` and what it leads to have the same names, to be awaited.\n")
    for name in dict.fromkeys(
        ["Sandbox", *PARTS, *(name for name in exported if not name.startswith("Async"))]
    ):
        parts += describe(where[name], 2, full=full)
    parts.append("## Errors\n\nIn `capsem.errors`; each says the cause, the place and the next step.\n")
    parts.append("| error | means | exit code of the command line |\n|---|---|--:|")
    for node in ast.parse(Path(errors.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            kind = getattr(errors, node.name)
            about = " ".join((ast.get_docstring(node) or "").split())
            parts.append(f"| `{node.name}` | {about} | {kind.exit_code} |")
    return "\n".join(part for part in parts if part) + "\n"


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(
        schema.get("type") or " or ".join(_kind(one) for one in schema.get("anyOf", [{"type": "any"}]))
    )


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    yield "| field | value | default |\n|---|---|---|"
    for name, field in schema["properties"].items():
        default = (
            "required" if name in schema.get("required", ()) else f"`{json.dumps(field.get('default'))}`"
        )
        about = f"; {field['description']}" if "description" in field else ""
        yield f"| `{name}` | {_kind(field)}{about} | {default} |"
    yield ""


def service() -> str:
    """docs/reference/capsem-service.md: what the service offers, from the description that it serves itself."""
    # The description is made of signatures; nobody asks the registry for anything.
    described = build(cast("Registry", None)).openapi()
    kinds = described["components"]["schemas"]
    parts = [
        MADE,
        "# The service over HTTP\n",
        "On `$CAPSEM_HOME/run/service.sock`, in a directory of mode 0700, for the user it runs as; "
        "`/openapi.json` has this in full.\n"
        'An error is `{"error": {"kind", "message", "next_step"}}`; an unknown field is one.\n',
        "```\ncurl --unix-socket ~/.capsem/run/service.sock http://capsem/machines\n```\n",
    ]
    asked: list[str] = []
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            parts.append(f"## {method.upper()} {path}\n\n{one['description']}\n")
            if "requestBody" in one:
                kind = _kind(one["requestBody"]["content"]["application/json"]["schema"])
                asked.append(kind)
                parts.append(f"Takes [{kind}](#{kind.lower()}).\n")
    for kind in asked:
        named = re.findall(r"'#/components/schemas/(\w+)'", str(kinds[kind]))
        asked += [other for other in named if other not in asked]
    for kind in dict.fromkeys(asked):
        parts += [f"## {kind}\n\n{kinds[kind]['description']}\n", *_fields(kinds[kind])]
    return "\n".join(parts)


PAGES = {"capsem.md": command_line, "capsem-python.md": python, "capsem-service.md": service}
