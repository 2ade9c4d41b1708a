"""What a policy and its tools share: filesystem, network, secrets, syscalls, process, env, limits, and so on.

reader = NodeReader("capsule.yaml")
sections = read_sections(reader, entries)      # entries: the mapping's known keys → nodes
"""

from __future__ import annotations

import re
from functools import partial

from capsule.policy.document import Mapping, Node, Scalar
from capsule.policy.model import (
    AUDIT_LEVELS,
    CONDITION_OPERATORS,
    LAYERS,
    LEAST_MEMORY,
    LEAST_OPEN_FILES,
    LIMIT_KINDS,
    Condition,
    Edit,
    Environment,
    Filesystem,
    NameEntry,
    PathEntry,
    Process,
    ProgramEntry,
    Sections,
    Setting,
    SyscallEntry,
    Syscalls,
)
from capsule.policy.network import read_detect, read_network
from capsule.policy.quantities import MAX_INTEGER, shown_quantity
from capsule.policy.reader import NodeReader
from capsule.policy.secrets import read_secrets

SECTION_KEYS = (
    "filesystem", "network", "secrets", "rules", "detect", "syscalls", "process", "env", "limits", "require", "audit",
)  # fmt: skip
FILESYSTEM_KEYS = ("read", "write", "execute", "deny", "protect", "private", "hide")
ERRNOS = (
    "EPERM", "ENOENT", "EINTR", "EIO", "EBADF", "EAGAIN", "ENOMEM", "EACCES", "EBUSY", "EEXIST",
    "ENODEV", "EINVAL", "ENOTTY", "ENOSPC", "EROFS", "ENOSYS", "ENOTSUP", "EOPNOTSUPP",
    "EPROTONOSUPPORT", "EAFNOSUPPORT", "ENETUNREACH",
)  # fmt: skip

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME_GLOB = re.compile(r"[A-Za-z0-9_*?]+")
_MAX_64 = 2**64 - 1


def read_sections(reader: NodeReader, entries: dict[str, Node]) -> Sections:
    """The sections present in `entries`; problems are left with the reader."""
    empty = Sections()
    has = entries.get
    audit = reader.word(entries["audit"], "audit", AUDIT_LEVELS) if has("audit") else None
    return Sections(
        filesystem=_filesystem(reader, node) if (node := has("filesystem")) else empty.filesystem,
        network=read_network(reader, node) if (node := has("network")) else empty.network,
        syscalls=_syscalls(reader, node) if (node := has("syscalls")) else empty.syscalls,
        process=_process(reader, node) if (node := has("process")) else empty.process,
        environment=_environment(reader, node) if (node := has("env")) else empty.environment,
        limits=_limits(reader, node) if (node := has("limits")) else empty.limits,
        require=_words(reader, node, "require", LAYERS) if (node := has("require")) else empty.require,
        audit=Setting(audit, reader.origin(entries["audit"])) if audit is not None else None,
        secrets=read_secrets(reader, node) if (node := has("secrets")) else empty.secrets,
        rules=reader.paths(node, "rules", optional=False) if (node := has("rules")) else empty.rules,
        detect=read_detect(reader, node) if (node := has("detect")) else empty.detect,
    )


def _words(reader: NodeReader, node: Node, subject: str, known: tuple[str, ...]) -> Edit[NameEntry]:
    def entry(item: Node, subject: str) -> NameEntry | None:
        word = reader.word(item, f"an entry of {subject}", known)
        return None if word is None else NameEntry(word, reader.origin(item))

    return reader.edit(node, entry, subject)


def _filesystem(reader: NodeReader, node: Node) -> Filesystem:
    lists: dict[str, Edit[PathEntry]] = {}
    for key, value in reader.fields(node, "filesystem", FILESYSTEM_KEYS):
        grant = key in {"read", "write", "execute"}
        lists[key] = reader.paths(
            value, f"filesystem.{key}", globs=key in {"deny", "protect"}, optional=grant
        )
    return Filesystem(**lists)


def _syscalls(reader: NodeReader, node: Node) -> Syscalls:
    parts = dict(reader.fields(node, "syscalls", ("groups", "allow", "deny")))

    def group(item: Node, subject: str) -> NameEntry | None:
        name = _syscall_name(reader, item, subject)
        return None if name is None else NameEntry(name, reader.origin(item))

    return Syscalls(
        groups=reader.edit(parts["groups"], group, "syscalls.groups") if "groups" in parts else Edit(),
        allow=reader.edit(parts["allow"], partial(_syscall, reader, denies=False), "syscalls.allow")
        if "allow" in parts
        else Edit(),
        deny=reader.edit(parts["deny"], partial(_syscall, reader, denies=True), "syscalls.deny")
        if "deny" in parts
        else Edit(),
    )


def _syscall_name(reader: NodeReader, node: Node, subject: str) -> str | None:
    name = reader.text(node, f"an entry of {subject}", "a name")
    if name is not None and not re.fullmatch(r"[a-z0-9_-]{1,64}", name):
        reader.refuse(
            node, f"{name[:80]!r} in {subject}", "a name of lower-case letters, digits, '_' and '-'"
        )
        return None
    return name


def _syscall(reader: NodeReader, node: Node, subject: str, *, denies: bool) -> SyscallEntry | None:
    if not isinstance(node, Mapping):
        name = _syscall_name(reader, node, subject)
        return None if name is None else SyscallEntry(name, reader.origin(node))
    known = ("name", "errno", "reason") if denies else ("name", "when", "reason")
    reserved = {"when": "conditions belong to 'allow'"} if denies else {"errno": "an errno belongs to 'deny'"}
    parts = dict(reader.fields(node, f"an entry of {subject}", known, reserved=reserved))
    if "name" not in parts:
        reader.refuse(node, f"an entry of {subject} has no 'name'", "{name: …}")
        return None
    name = _syscall_name(reader, parts["name"], subject)
    when: tuple[Condition, ...] = ()
    if "when" in parts:
        items = reader.items(parts["when"], "when")
        when = tuple(found for item in items if (found := _condition(reader, item)) is not None)
        if not items:
            reader.refuse(parts["when"], "'when' has no condition", "a list of {arg, op, value}")
    if name is None:
        return None
    return SyscallEntry(
        name,
        reader.origin(parts["name"]),
        when,
        reader.word(parts["errno"], "errno", ERRNOS) if "errno" in parts else None,
        reader.reason(parts),
    )


def _condition(reader: NodeReader, node: Node) -> Condition | None:
    parts = dict(reader.fields(node, "a condition", ("arg", "op", "value", "mask")))
    missing = [key for key in ("arg", "op", "value") if key not in parts]
    if missing:
        if isinstance(node, Mapping):
            reader.refuse(node, f"a condition has no {missing[0]!r}", "{arg, op, value}")
        return None
    arg = reader.integer(parts["arg"], "arg", 0, 5)
    op = reader.word(parts["op"], "op", CONDITION_OPERATORS)
    # A plan holds integers below 2^53, and so do conditions; flags and commands are far below.
    value = reader.integer(parts["value"], "value", 0, MAX_INTEGER)
    mask = reader.integer(parts["mask"], "mask", 0, MAX_INTEGER) if "mask" in parts else None
    if op is not None and ("mask" in parts) != (op == "mask"):
        reader.refuse(
            node,
            f"op is {op!r} and mask is {'given' if 'mask' in parts else 'missing'}",
            "'mask' with op 'mask', and only then",
        )
        return None
    if arg is None or op is None or value is None:
        return None
    if mask is not None and value & ~mask:
        reader.refuse(
            parts["value"],
            "value has bits outside mask, so the condition can never hold",
            "a value within the mask",
        )
        return None
    return Condition(arg, op, value, mask)


def _process(reader: NodeReader, node: Node) -> Process:
    parts = dict(reader.fields(node, "process", ("programs",)))
    if "programs" not in parts:
        return Process()
    programs = parts["programs"]
    if isinstance(programs, Scalar) and programs.text == "any":
        return Process(Setting(False, reader.origin(programs)), Edit(replace=True))
    edit = reader.edit(
        programs,
        partial(_program, reader),
        "process.programs",
        lambda item: reader.path(item, "process.programs.remove", globs=False) or "",
    )
    return Process(Setting(True, reader.origin(programs)), edit)


def _program(reader: NodeReader, node: Node, subject: str) -> ProgramEntry | None:
    if not isinstance(node, Mapping):
        path = reader.path(node, subject, globs=False)
        return None if path is None else ProgramEntry(path, reader.origin(node))
    parts = dict(reader.fields(node, f"an entry of {subject}", ("path", "digest", "reason")))
    if "path" not in parts:
        reader.refuse(node, f"an entry of {subject} has no 'path'", "{path: …}")
        return None
    path = reader.path(parts["path"], subject, globs=False)
    digest = None
    if "digest" in parts:
        digest = reader.text(parts["digest"], "digest", "blake3: and 64 hexadecimal digits")
        if digest is not None and not re.fullmatch(r"blake3:[0-9a-f]{64}", digest):
            reader.refuse(
                parts["digest"], f"digest is {digest[:80]!r}", "blake3: and 64 lower-case hexadecimal digits"
            )
    return (
        None
        if path is None
        else ProgramEntry(path, reader.origin(parts["path"]), digest, reader.reason(parts))
    )


def _environment(reader: NodeReader, node: Node) -> Environment:
    parts = dict(reader.fields(node, "env", ("pass", "set", "scrub")))

    def pattern(item: Node, subject: str) -> NameEntry | None:
        name = reader.text(item, f"an entry of {subject}", "a variable's name, with * and ? allowed")
        if name is None:
            return None
        if not _NAME_GLOB.fullmatch(name):
            reader.refuse(item, f"{name[:80]!r} in {subject}", "letters, digits, '_', '*' and '?'")
            return None
        return NameEntry(name, reader.origin(item))

    values: dict[str, Setting[str | None]] = {}
    if "set" in parts:
        if not isinstance(parts["set"], Mapping):
            reader.items(parts["set"], "env.set")
            reader.refuse(parts["set"], "env.set is not a mapping", "{NAME: value, …}")
        else:
            for key, value in parts["set"].entries:
                if not _NAME.fullmatch(key.text):
                    reader.refuse(
                        key, f"{key.text[:80]!r} in env.set", "a variable's name: letters, digits and '_'"
                    )
                elif isinstance(value, Scalar) and not value.quoted and value.text in {"", "null"}:
                    values[key.text] = Setting(None, reader.origin(key))
                else:
                    text = reader.text(value, f"env.set.{key.text}", "text")
                    if text is not None:
                        values[key.text] = Setting(text, reader.origin(key))
    return Environment(
        passed=reader.edit(parts["pass"], pattern, "env.pass") if "pass" in parts else Edit(),
        scrub=reader.edit(parts["scrub"], pattern, "env.scrub") if "scrub" in parts else Edit(),
        set=values,
    )


_LEAST = {"memory": LEAST_MEMORY, "open_files": LEAST_OPEN_FILES}


def _limits(reader: NodeReader, node: Node) -> dict[str, Setting[int | None]]:
    limits: dict[str, Setting[int | None]] = {}
    for key, value in reader.fields(node, "limits", LIMIT_KINDS):
        kind = LIMIT_KINDS[key]
        limit = reader.quantity(value, f"limits.{key}", kind)
        least = _LEAST.get(key, 0)
        if limit is not None and limit.value is not None and limit.value < least:
            reader.refuse(
                value,
                f"limits.{key} is {shown_quantity(limit.value, kind)}, with which no program starts",
                f"at least {shown_quantity(least, kind)}",
            )
        elif limit is not None:
            limits[key] = limit
    return limits
