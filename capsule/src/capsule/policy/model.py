"""What a policy says, as frozen values that remember their line. Absent is `None` or empty.

One document yields `Sections` whose lists are *edits* (take away, then add). Merging documents folds the
edits; in the resulting `Policy` every list has only additions left.

    Edit(add=(entry,))                      # read: [~/data]
    Edit(replace=True, add=(entry,))        # read: {replace: [~/data]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

LAYERS = ("cgroup", "landlock", "namespaces", "network", "seccomp", "supervisor")
AUDIT_LEVELS = ("run", "writes", "all")
CONDITION_OPERATORS = ("eq", "ne", "lt", "le", "gt", "ge", "mask")
LIMIT_KINDS: Mapping[str, str] = {
    "memory": "size",
    "cpu": "duration",
    "processes": "count",
    "wall_time": "duration",
    "open_files": "count",
    "file_size": "size",
    "output": "size",
    "disk": "size",
}
LEAST_MEMORY = 4 * 2**20
"""Bytes of writable memory below which no `limits.memory` is taken: a shell with one child takes about as much."""
LEAST_OPEN_FILES = 16
"""A program is started with a few of ours beside its own; below seven none is."""
BUDGET_KINDS: Mapping[str, str] = {
    "requests": "count",
    "bytes": "size",
    "tokens": "count",
    "dollars": "money",
}
NETWORK_MODES = ("none", "hosts", "open")
INSPECTION = ("auto", "always", "never")
DEFAULT_PORTS = (443, 80)
CARRIERS = ("header", "basic", "query", "body")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry was written: file as named in the sources, line and column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Keyed(Protocol):
    """An entry of a list: `key` is what `remove` names it by."""

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        ...

    @property
    def origin(self) -> Origin:
        """Where it was written."""
        ...


@dataclass(frozen=True, slots=True)
class PathEntry:
    """A path or pattern in plan form (`/…`, `${home}/…`, `${workspace}/…`)."""

    path: str
    origin: Origin
    optional: bool = False
    reason: str = ""

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        return self.path


@dataclass(frozen=True, slots=True)
class NameEntry:
    """A word: a syscall group, an environment name pattern, a layer, a port number as text."""

    name: str
    origin: Origin
    reason: str = ""

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        return self.name


@dataclass(frozen=True, slots=True)
class Condition:
    """`(argument op value)` over the 64-bit argument; for `mask`: `(argument & mask) == value`."""

    arg: int
    op: str
    value: int
    mask: int | None = None


@dataclass(frozen=True, slots=True)
class SyscallEntry:
    """A system call allowed (when all conditions hold) or denied (with `errno`)."""

    name: str
    origin: Origin
    when: tuple[Condition, ...] = ()
    errno: str | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        return self.name


@dataclass(frozen=True, slots=True)
class ProgramEntry:
    """A program that may run; with a digest, only these very bytes."""

    path: str
    origin: Origin
    digest: str | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        return self.path


@dataclass(frozen=True, slots=True)
class HostEntry:
    """A host that may be reached: a name in A-labels, `*.suffix` or an IPv4 address. `methods`, `paths` None: any.

    `credential` names the secret that requests have to carry.
    """

    host: str
    origin: Origin
    ports: tuple[int, ...] = DEFAULT_PORTS
    methods: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    inspect: str = "auto"
    private: bool = False
    credential: str | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        return self.host


@dataclass(frozen=True, slots=True)
class UpstreamEntry:
    """A host that is dialled at `address` (`IP:PORT`), whatever its name resolves to."""

    host: str
    address: str
    origin: Origin
    reason: str = ""

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        return self.host


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret's value comes from; the fields of its `kind` are set. `expires` in milliseconds."""

    kind: str
    env: str | None = None
    file: str | None = None
    service: str | None = None
    user: str | None = None
    command: tuple[str, ...] | None = None
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """A value that goes to some hosts, and never into the sandbox; `env` holds its placeholder there."""

    name: str
    origin: Origin
    source: SecretSource
    to: tuple[str, ...]
    carried: str
    env: str
    field: str | None = None
    user: str | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        return self.name


@dataclass(frozen=True, slots=True)
class DetectEntry:
    """A pack of detection rules that comes with capsule, or a directory of them in plan form."""

    name: str
    is_path: bool
    origin: Origin

    @property
    def key(self) -> str:
        """What `remove` names it by."""
        return self.name


@dataclass(frozen=True, slots=True)
class Example:
    """`kind` is read, write, execute, connect, request, syscall or env; `expect` is what must come out."""

    kind: str
    subject: str
    expect: bool
    origin: Origin


T = TypeVar("T")
E = TypeVar("E", bound=Keyed)


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One value and where it was written."""

    value: T
    origin: Origin


@dataclass(frozen=True, slots=True)
class Edit(Generic[E]):
    """What a document does to a list: drop everything (`replace`), or some (`remove`), then append `add`."""

    add: tuple[E, ...] = ()
    remove: tuple[NameEntry, ...] = ()
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Filesystem:
    """What may be read, written and executed, and what is taken out of that again."""

    read: Edit[PathEntry] = Edit()
    write: Edit[PathEntry] = Edit()
    execute: Edit[PathEntry] = Edit()
    deny: Edit[PathEntry] = Edit()
    protect: Edit[PathEntry] = Edit()
    private: Edit[PathEntry] = Edit()
    hide: Edit[PathEntry] = Edit()


@dataclass(frozen=True, slots=True)
class Network:
    """Loopback ports and Unix sockets of the host, and the hosts that are reached by name. A `proxy` of None: none."""

    mode: Setting[str] | None = None
    ports: Edit[NameEntry] = Edit()
    unix: Edit[PathEntry] = Edit()
    hosts: Edit[HostEntry] = Edit()
    unlisted: Setting[str] | None = None
    budget: Mapping[str, Setting[int | None]] = field(default_factory=dict)
    upstreams: Edit[UpstreamEntry] = Edit()
    authorities: Edit[PathEntry] = Edit()
    proxy: Setting[str | None] | None = None


@dataclass(frozen=True, slots=True)
class Syscalls:
    """System calls, by group and by name; deny wins."""

    groups: Edit[NameEntry] = Edit()
    allow: Edit[SyscallEntry] = Edit()
    deny: Edit[SyscallEntry] = Edit()


@dataclass(frozen=True, slots=True)
class Process:
    """Programs. `restricted` None or False: any executable under `execute` may run."""

    restricted: Setting[bool] | None = None
    programs: Edit[ProgramEntry] = Edit()


@dataclass(frozen=True, slots=True)
class Environment:
    """Which variables reach the command. A `set` value of None takes an inherited one away."""

    passed: Edit[NameEntry] = Edit()
    scrub: Edit[NameEntry] = Edit()
    set: Mapping[str, Setting[str | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sections:
    """Everything a tool may override. Limits: bytes, milliseconds or counts; None is no limit."""

    filesystem: Filesystem = Filesystem()
    network: Network = Network()
    syscalls: Syscalls = Syscalls()
    process: Process = Process()
    environment: Environment = Environment()
    limits: Mapping[str, Setting[int | None]] = field(default_factory=dict)
    require: Edit[NameEntry] = Edit()
    audit: Setting[str] | None = None
    secrets: Edit[SecretEntry] = Edit()
    rules: Edit[PathEntry] = Edit()
    detect: Edit[DetectEntry] = Edit()


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file."""

    file: str
    name: Setting[str] | None
    extends: tuple[NameEntry, ...]
    sections: Sections
    tools: Mapping[str, Setting[Sections]]
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes a policy was made of; `path` as it appears in origins.

    Attributes:
        path: absolute, or `preset:NAME`. The name that was given to the top one, also where that is a link.
        data: what the file says.
        target: the file a link leads to, else empty.
    """

    path: str
    data: bytes
    target: str = ""

    @property
    def directory(self) -> str:
        """Where the file really lies, without a slash at its end: what it extends and is decided by lies beside it."""
        return (self.target or self.path).rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Policy:
    """A resolved policy: all documents folded, lists with additions only."""

    name: str
    origin: Origin
    sections: Sections
    tools: Mapping[str, Setting[Sections]]
    examples: tuple[Example, ...]
    sources: tuple[Source, ...]
