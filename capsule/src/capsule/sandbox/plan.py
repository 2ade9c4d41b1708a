"""The plan: what the policy compiler hands to the launcher, as `docs/formats/plan.md` names it.

Written as canonical JSON (RFC 8785: sorted keys, no spaces, integers only). Reading refuses unknown and
missing fields; the launcher checks again and more.

    encode_plan(plan)          # b'{"audit":"run","compiler":…}'
    decode_plan(data).name
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from capsule.errors import PlanError, PolicyError, Problem

MAX_BYTES = 1 << 20


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class PlanOrigin(_Strict, frozen=True):
    """Where an entry was written, counted from 1."""

    file: str
    line: int
    column: int


class PlanSource(_Strict, frozen=True):
    """A file or preset the plan was made of, with the BLAKE3 of its bytes."""

    path: str
    digest: str


class PlanPolicy(_Strict, frozen=True):
    """The digest over all sources, and the sources, the top one first."""

    digest: str
    sources: tuple[PlanSource, ...]


class PlanGrant(_Strict, frozen=True):
    """A granted path; one that is not optional has to exist."""

    path: str
    optional: bool
    origin: PlanOrigin


class PlanPattern(_Strict, frozen=True):
    """A pattern that takes away; covers everything beneath."""

    pattern: str
    origin: PlanOrigin


class PlanPlace(_Strict, frozen=True):
    """A directory that is covered."""

    path: str
    origin: PlanOrigin


class PlanFilesystem(_Strict, frozen=True):
    """Grants, and what is taken out of them."""

    read: tuple[PlanGrant, ...]
    write: tuple[PlanGrant, ...]
    execute: tuple[PlanGrant, ...]
    deny: tuple[PlanPattern, ...]
    protect: tuple[PlanPattern, ...]
    private: tuple[PlanPlace, ...]
    hide: tuple[PlanPlace, ...]


class PlanHost(_Strict, frozen=True):
    """A name, `*.suffix` or IPv4 address. `methods` and `paths` None: any; `credential` names a secret."""

    host: str
    ports: tuple[int, ...]
    methods: tuple[str, ...] | None
    paths: tuple[str, ...] | None
    inspect: Literal["auto", "always", "never"]
    private: bool
    credential: str | None
    origin: PlanOrigin


class PlanBudget(_Strict, frozen=True):
    """Counts, bytes, tokens and millionths of a dollar of one run; None is no limit."""

    requests: int | None
    bytes: int | None
    tokens: int | None
    microdollars: int | None


class PlanUpstream(_Strict, frozen=True):
    """A name that is dialled at `address:port`."""

    host: str
    address: str
    origin: PlanOrigin


class PlanSecretFrom(_Strict, frozen=True):
    """Where a secret's value comes from: the fields of its kind, the others None."""

    kind: Literal["env", "file", "keyring", "command"]
    env: str | None
    file: str | None
    service: str | None
    user: str | None
    command: tuple[str, ...] | None
    expires_ms: int | None


class PlanSecret(_Strict, frozen=True):
    """A value that never enters the sandbox; `env` is the variable that holds its placeholder there."""

    name: str
    source: PlanSecretFrom = msgspec.field(name="from")
    to: tuple[str, ...]
    carried: Literal["header", "basic", "query", "body"] = msgspec.field(name="as")
    field: str | None
    user: str | None
    env: str | None
    origin: PlanOrigin


class PlanRuleFile(_Strict, frozen=True):
    """A file of rules; a path with variables."""

    path: str
    origin: PlanOrigin


class PlanDetection(_Strict, frozen=True):
    """A pack that comes with capsule, or the path of a directory: one of them."""

    pack: str | None
    path: str | None
    origin: PlanOrigin


class PlanEgress(_Strict, frozen=True):
    """Who is reached through `capsule-egress`."""

    unlisted: Literal["deny", "ask"]
    hosts: tuple[PlanHost, ...]
    budget: PlanBudget
    upstreams: tuple[PlanUpstream, ...]
    authorities: tuple[PlanGrant, ...]
    proxy: str | None
    secrets: tuple[PlanSecret, ...]
    rules: tuple[PlanRuleFile, ...]
    detect: tuple[PlanDetection, ...]


class PlanNetwork(_Strict, frozen=True):
    """These loopback ports and Unix sockets of the host, and what is reached by name.

    `egress` (`docs/formats/egress.md`) is there with the mode `hosts`, and only then.
    """

    mode: Literal["none", "hosts", "open"]
    ports: tuple[int, ...]
    unix: tuple[PlanGrant, ...]
    egress: PlanEgress | None
    origin: PlanOrigin


class PlanCondition(_Strict, frozen=True):
    """`(argument op value)`; for `mask`: `(argument & mask) == value`."""

    arg: int
    op: Literal["eq", "ne", "lt", "le", "gt", "ge", "mask"]
    value: int
    mask: int | None


class PlanSyscallGroup(_Strict, frozen=True):
    """Calls that are allowed together and without conditions."""

    name: str
    reason: str
    origin: PlanOrigin
    members: tuple[str, ...]


class PlanSyscallAllow(_Strict, frozen=True):
    """An allowed call; several of one name are alternatives."""

    name: str
    reason: str
    origin: PlanOrigin
    when: tuple[PlanCondition, ...]


class PlanSyscallDeny(_Strict, frozen=True):
    """A call that fails with `errno`."""

    name: str
    errno: str
    reason: str
    origin: PlanOrigin


class PlanSyscalls(_Strict, frozen=True):
    """All sorted by name; what is in none of them is denied and reported."""

    groups: tuple[PlanSyscallGroup, ...]
    allow: tuple[PlanSyscallAllow, ...]
    deny: tuple[PlanSyscallDeny, ...]

    def allowed(self) -> tuple[PlanSyscallAllow, ...]:
        """Every allowed call with its conditions, those of groups spelt out; sorted by name."""
        members = (
            PlanSyscallAllow(name, group.reason, group.origin, ())
            for group in self.groups
            for name in group.members
        )
        return tuple(sorted((*members, *self.allow), key=lambda entry: entry.name))


class PlanProgram(_Strict, frozen=True):
    """A program that may run, or a directory of them."""

    path: str
    digest: str | None
    origin: PlanOrigin


class PlanProcess(_Strict, frozen=True):
    """`programs` None: any file under `execute`."""

    programs: tuple[PlanProgram, ...] | None


class PlanEnvironment(_Strict, frozen=True):
    """`scrub` wins over `pass`, `set` over both."""

    passed: tuple[str, ...] = msgspec.field(name="pass")
    scrub: tuple[str, ...]
    set: dict[str, str]


class PlanLimits(_Strict, frozen=True):
    """Bytes, milliseconds or counts; None is no limit."""

    memory: int | None
    cpu: int | None
    processes: int | None
    wall_time: int | None
    open_files: int | None
    file_size: int | None
    output: int | None
    disk: int | None


class Plan(_Strict, frozen=True):
    """A whole plan, version 1."""

    plan: Literal[1]
    name: str
    compiler: str
    policy: PlanPolicy
    filesystem: PlanFilesystem
    network: PlanNetwork
    syscalls: PlanSyscalls
    process: PlanProcess
    environment: PlanEnvironment
    limits: PlanLimits
    require: tuple[Literal["cgroup", "landlock", "namespaces", "network", "seccomp", "supervisor"], ...]
    audit: Literal["run", "writes", "all"]


def encode_plan(plan: Plan) -> bytes:
    """The canonical JSON of a plan, without a newline.

    Raises:
        PolicyError: when it is longer than the launcher accepts.
    """
    data = json.dumps(
        msgspec.to_builtins(plan), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()
    if len(data) > MAX_BYTES:
        what = f"all that this says comes to a plan of {len(data)} bytes, more than {MAX_BYTES}"
        next_step = "grant directories instead of many files, or deny with patterns"
        raise PolicyError([Problem(plan.policy.sources[0].path, 1, 1, what, next_step=next_step)])
    return data


def decode_plan(data: bytes) -> Plan:
    """The plan in `data`, untrusted.

    Raises:
        PlanError: when a field is unknown, missing, repeated or of another type.
    """
    next_step = "compile it again with 'capsule policy compile'"
    if len(data) > MAX_BYTES:
        raise PlanError(f"the plan is {len(data)} bytes long, more than {MAX_BYTES}", next_step=next_step)
    try:
        json.loads(data, object_pairs_hook=_unique)
        return msgspec.json.decode(data, type=Plan)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"this is not a plan: {str(error)[:200]}", next_step=next_step) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is written twice")
    return found
