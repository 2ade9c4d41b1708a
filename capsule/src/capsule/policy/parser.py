r"""One policy file: bytes → `Document`, or `PolicyError` with every place that is wrong.

Pure: no file is read here; `extends` is only recorded, `merge.resolve` follows it.
What it refuses: anything it does not know. There is no lenient mode.

    parse(b"version: 1\nextends: [workspace]\n", "capsule.yaml")
"""

from __future__ import annotations

import re

from capsule.policy.document import Mapping, Node, Scalar, read_document
from capsule.policy.model import Document, Example, NameEntry, Sections, Setting
from capsule.policy.paths import PathError, parse_path
from capsule.policy.reader import NodeReader
from capsule.policy.request import parse_request
from capsule.policy.sections import SECTION_KEYS, read_sections

TOP_KEYS = ("version", "name", "extends", *SECTION_KEYS, "tools", "examples")
EXAMPLE_KINDS = ("read", "write", "execute", "connect", "request", "syscall", "env")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOOL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


def parse(data: bytes, file: str) -> Document:
    """The document in `data`.

    Args:
        data: the bytes of the file, untrusted.
        file: its name, as it will appear in origins and errors.

    Raises:
        PolicyError: with at most 50 problems, in the order of the file.
    """
    root = read_document(data, file)
    reader = NodeReader(file)
    entries = dict(reader.fields(root, "the policy", TOP_KEYS))
    _version(reader, root, entries)
    document = Document(
        file=file,
        name=_name(reader, entries["name"]) if "name" in entries else None,
        extends=_extends(reader, entries["extends"]) if "extends" in entries else (),
        sections=read_sections(reader, entries),
        tools=_tools(reader, entries["tools"]) if "tools" in entries else {},
        examples=_examples(reader, entries["examples"]) if "examples" in entries else (),
    )
    reader.finish()
    return document


def _version(reader: NodeReader, root: Mapping, entries: dict[str, Node]) -> None:
    node = entries.get("version")
    if node is None:
        reader.refuse(root, "the policy has no 'version'", "'version: 1' as the first line")
    elif not (isinstance(node, Scalar) and not node.quoted and node.text == "1"):
        shown = repr(node.text[:40]) if isinstance(node, Scalar) else "not a number"
        reader.refuse(node, f"version is {shown}", "1", next_step="this capsule reads version 1 only")


def _name(reader: NodeReader, node: Node) -> Setting[str] | None:
    text = reader.text(node, "name", "a short name")
    if text is None:
        return None
    if not _NAME.fullmatch(text):
        reader.refuse(node, f"name is {text[:80]!r}", "at most 64 letters, digits, '.', '_' and '-'")
        return None
    return Setting(text, reader.origin(node))


def _extends(reader: NodeReader, node: Node) -> tuple[NameEntry, ...]:
    found: list[NameEntry] = []
    for item in reader.items(node, "extends"):
        text = reader.text(item, "an entry of extends", "a preset's name or a file such as ./team.yaml")
        if text is None:
            continue
        if is_preset_name(text):
            found.append(NameEntry(text, reader.origin(item)))
            continue
        if not text.endswith((".yaml", ".yml")):
            reader.refuse(item, f"{text[:80]!r} in extends", "a preset's name or a file that ends in .yaml")
            continue
        try:
            # Only the syntax is checked: in `extends` a path is relative to the file that says
            # it, and may go up.
            parse_path(re.sub(r"^(\./)?(\.\./)+", "", text), globs=False)
        except PathError as fault:
            reader.refuse(item, fault.what, fault.expected, next_step=fault.next_step)
            continue
        found.append(NameEntry(text, reader.origin(item)))
    names = [entry.name for entry in found]
    for index, entry in enumerate(found):
        if entry.name in names[:index]:
            reader.refuse(node, f"extends names {entry.name!r} twice", next_step="keep the last one")
    return tuple(found)


def is_preset_name(reference: str) -> bool:
    """Whether an `extends` entry, or a command-line argument, is a preset's name rather than a file."""
    return re.fullmatch(r"[a-z][a-z0-9-]{0,63}", reference) is not None


def _tools(reader: NodeReader, node: Node) -> dict[str, Setting[Sections]]:
    tools: dict[str, Setting[Sections]] = {}
    if not isinstance(node, Mapping):
        reader.refuse(node, "tools is not a mapping", "{name: {filesystem: …}, …}")
        return tools
    for key, value in node.entries:
        if not _TOOL.fullmatch(key.text):
            reader.refuse(key, f"{key.text[:80]!r} as a tool's name", "letters, digits, '_', '.' and '-'")
            continue
        entries = dict(reader.fields(value, f"tools.{key.text}", SECTION_KEYS))
        tools[key.text] = Setting(read_sections(reader, entries), reader.origin(key))
    return tools


def _examples(reader: NodeReader, node: Node) -> tuple[Example, ...]:
    found: list[Example] = []
    for key, value in reader.fields(node, "examples", ("allow", "deny")):
        for item in reader.items(value, f"examples.{key}"):
            example = _example(reader, item, expect=key == "allow")
            if example is not None:
                found.append(example)
    return tuple(found)


def _example(reader: NodeReader, node: Node, *, expect: bool) -> Example | None:
    parts = list(reader.fields(node, "an example", EXAMPLE_KINDS))
    if len(parts) != 1:
        if isinstance(node, Mapping):
            reader.refuse(
                node, "an example has to try exactly one thing", "{read: path}, {connect: address}, …"
            )
        return None
    kind, value = parts[0]
    origin = reader.origin(value)
    if kind in {"read", "write", "execute"}:
        path = reader.path(value, f"examples ({kind})", globs=False)
        return None if path is None else Example(kind, path, expect, origin)
    text = reader.text(value, f"an example's {kind}", "text")
    if text is None:
        return None
    if kind in {"connect", "request"}:
        try:
            text = parse_address(text) if kind == "connect" else parse_request(text).text
        except PathError as fault:
            reader.refuse(value, fault.what, fault.expected, next_step=fault.next_step)
            return None
    elif not re.fullmatch(r"[A-Za-z0-9_]{1,128}", text):
        reader.refuse(value, f"an example's {kind} is {text[:80]!r}", "a name")
        return None
    return Example(kind, text, expect, origin)


def parse_address(text: str) -> str:
    """`tcp:127.0.0.1:5432`, `tcp:example.org:443` or `unix:/run/x.sock`, in the spelling of reports.

    Raises:
        PathError: when it is neither.
    """
    if text.startswith("unix:"):
        return "unix:" + parse_path(text.removeprefix("unix:"), globs=False)
    match = re.fullmatch(r"tcp:([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\]):([1-9][0-9]{0,4})", text)
    if match is None or int(match.group(2)) > 65535:
        raise PathError(f"the address {text[:80]!r}", "tcp:HOST:PORT or unix:/PATH")
    return text
