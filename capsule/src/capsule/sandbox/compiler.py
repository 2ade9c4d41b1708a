"""`Policy` → `Plan`. The same policy always gives the same bytes.

Pure. What it refuses: unknown system calls and groups, and those that may never be granted; every other check
was the parser's, or is `hosts`'. It adds nothing to a policy but the two refusals programs expect (`clone3`,
`io_uring`: ENOSYS), and keeps the command from the files that secrets, rules and detection are read from.

    plan = compile_policy(policy)
    encode_plan(plan)
"""

from __future__ import annotations

from typing import Any, cast

from blake3 import blake3

from capsule.errors import PolicyError, Problem, nearest_name
from capsule.policy.model import (
    LIMIT_KINDS,
    Condition,
    Edit,
    NameEntry,
    Origin,
    PathEntry,
    Policy,
    Source,
    SyscallEntry,
)
from capsule.sandbox import syscalls
from capsule.sandbox.hosts import compile_hosts
from capsule.sandbox.plan import (
    Plan,
    PlanCondition,
    PlanEnvironment,
    PlanFilesystem,
    PlanGrant,
    PlanLimits,
    PlanNetwork,
    PlanOrigin,
    PlanPattern,
    PlanPlace,
    PlanPolicy,
    PlanProcess,
    PlanProgram,
    PlanSource,
    PlanSyscallAllow,
    PlanSyscallDeny,
    PlanSyscallGroup,
    PlanSyscalls,
)

# The version of the distribution; a test compares it with pyproject.toml.
COMPILER = "capsule 0.1.0"


def compile_policy(policy: Policy) -> Plan:
    """The plan of a resolved policy.

    Raises:
        PolicyError: when it names a system call or group that does not exist or may never be granted, or hosts,
            secrets and credentials do not fit together.
    """
    sections = policy.sections
    hosts = compile_hosts(policy)
    fs, env, network = sections.filesystem, sections.environment, sections.network
    restricted = sections.process.restricted is not None and sections.process.restricted.value
    programs = tuple(PlanProgram(p.path, p.digest, _origin(p.origin)) for p in sections.process.programs.add)
    limits = {name: setting.value for name, setting in sections.limits.items()}
    return Plan(
        plan=1,
        name=policy.name,
        compiler=COMPILER,
        policy=_policy(policy.sources),
        filesystem=PlanFilesystem(
            read=_grants(fs.read),
            write=_grants(fs.write),
            execute=_grants(fs.execute),
            deny=_besides(_patterns(fs.deny), hosts.deny),
            protect=_besides(_patterns(fs.protect), hosts.protect),
            private=_places(fs.private),
            hide=_places(fs.hide),
        ),
        network=PlanNetwork(
            mode=hosts.mode,
            ports=tuple(dict.fromkeys(int(port.name) for port in network.ports.add)),
            unix=_grants(network.unix),
            egress=hosts.egress,
            origin=_origin(network.mode.origin if network.mode is not None else policy.origin),
        ),
        syscalls=_Calls(policy).compile(),
        process=PlanProcess(programs if restricted else None),
        environment=PlanEnvironment(
            passed=_names(env.passed),
            scrub=_names(env.scrub),
            set={
                name: setting.value for name, setting in sorted(env.set.items()) if setting.value is not None
            },
        ),
        limits=PlanLimits(**{name: limits.get(name) for name in LIMIT_KINDS}),
        require=cast(Any, tuple(sorted({entry.name for entry in sections.require.add}))),
        audit=cast(Any, sections.audit.value if sections.audit is not None else "run"),
    )


def policy_digest(sources: tuple[Source, ...]) -> str:
    """`blake3:…` over every source: path NUL length NUL bytes."""
    hasher = blake3()
    for source in sources:
        hasher.update(f"{source.path}\0{len(source.data)}\0".encode())
        hasher.update(source.data)
    return f"blake3:{hasher.hexdigest()}"


def _policy(sources: tuple[Source, ...]) -> PlanPolicy:
    listed = tuple(PlanSource(source.path, f"blake3:{blake3(source.data).hexdigest()}") for source in sources)
    return PlanPolicy(policy_digest(sources), listed)


def _origin(origin: Origin) -> PlanOrigin:
    return PlanOrigin(origin.file, origin.line, origin.column)


def _last(edit: Edit[PathEntry]) -> list[PathEntry]:
    """One entry for a path, the one written last; a required one stays required."""
    found: dict[str, PathEntry] = {}
    for entry in edit.add:
        earlier = found.pop(entry.path, None)
        found[entry.path] = entry if earlier is None or earlier.optional or not entry.optional else earlier
    return list(found.values())


def _grants(edit: Edit[PathEntry]) -> tuple[PlanGrant, ...]:
    return tuple(PlanGrant(entry.path, entry.optional, _origin(entry.origin)) for entry in _last(edit))


def _patterns(edit: Edit[PathEntry]) -> tuple[PlanPattern, ...]:
    return tuple(PlanPattern(entry.path, _origin(entry.origin)) for entry in _last(edit))


def _besides(written: tuple[PlanPattern, ...], relied_on: tuple[PlanPattern, ...]) -> tuple[PlanPattern, ...]:
    known = {entry.pattern for entry in written}
    more = {entry.pattern: entry for entry in relied_on if entry.pattern not in known}
    return (*written, *more.values())


def _places(edit: Edit[PathEntry]) -> tuple[PlanPlace, ...]:
    return tuple(PlanPlace(entry.path, _origin(entry.origin)) for entry in _last(edit))


def _names(edit: Edit[NameEntry]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.name for entry in edit.add))


class _Calls:
    """The system calls of one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.problems: list[Problem] = []

    def compile(self) -> PlanSyscalls:
        section = self.policy.sections.syscalls
        denied: dict[str, PlanSyscallDeny] = {}
        for group in syscalls.groups().values():
            if group.kind == "never" and group.errno == "ENOSYS" and group.name != "obsolete":
                for name in group.members:
                    denied[name] = PlanSyscallDeny(
                        name, group.errno, group.reason, _origin(self.policy.origin)
                    )
        for call in section.deny.add:
            self._known(call)
            reason = call.reason or "denied by the policy"
            denied[call.name] = PlanSyscallDeny(
                call.name, call.errno or "EPERM", reason, _origin(call.origin)
            )
        allowed: dict[tuple[str, tuple[Condition, ...]], PlanSyscallAllow] = {}
        members: dict[str, tuple[NameEntry, syscalls.Group]] = {}
        for entry in section.groups.add:
            known = self._group(entry)
            for name in known.members if known is not None else ():
                for when in syscalls.CONDITIONS.get(name, ((),)):
                    if known is not None and when:
                        allowed[name, when] = _allow(name, known.reason, entry.origin, when)
                    elif known is not None:
                        members[name] = (entry, known)
        for call in section.allow.add:
            self._grantable(call)
            if not call.when:
                members.pop(call.name, None)
            allowed[call.name, call.when] = _allow(
                call.name, call.reason or "allowed by the policy", call.origin, call.when
            )
        if self.problems:
            raise PolicyError(self.problems)
        return PlanSyscalls(
            groups=_groups({name: found for name, found in members.items() if name not in denied}),
            allow=tuple(
                allowed[key] for key in sorted(allowed, key=lambda key: key[0]) if key[0] not in denied
            ),
            deny=tuple(denied[name] for name in sorted(denied)),
        )

    def _group(self, entry: NameEntry) -> syscalls.Group | None:
        group = syscalls.groups().get(entry.name)
        names = [name for name, known in syscalls.groups().items() if known.kind == "grant"]
        if group is None:
            self._refuse(entry.origin, f"unknown system call group {entry.name!r}", names, entry.name)
            return None
        if group.kind == "never":
            self._refuse(entry.origin, f"the group {entry.name!r} cannot be allowed: {group.reason}", names)
            return None
        return group

    def _known(self, call: SyscallEntry) -> bool:
        if call.name in syscalls.numbers():
            return True
        self._refuse(
            call.origin,
            f"unknown system call {call.name!r}",
            None,
            call.name,
            "the Linux name of a system call",
        )
        return False

    def _grantable(self, call: SyscallEntry) -> None:
        if not self._known(call):
            return
        group = syscalls.group_of(call.name)
        if group is not None and group.kind == "never":
            self._refuse(call.origin, f"{call.name!r} cannot be allowed: {group.reason}", None)

    def _refuse(
        self, origin: Origin, what: str, names: list[str] | None, name: str | None = None, expected: str = ""
    ) -> None:
        nearest = (
            None if name is None else nearest_name(name, names if names is not None else syscalls.numbers())
        )
        listed = expected or ("one of " + ", ".join(names) if names else "")
        self.problems.append(
            Problem(
                origin.file, origin.line, origin.column, what, listed, nearest, "" if nearest else "remove it"
            )
        )


def _groups(members: dict[str, tuple[NameEntry, syscalls.Group]]) -> tuple[PlanSyscallGroup, ...]:
    """The calls of groups, each group once; one that is written twice has the origin it has last."""
    found: dict[str, tuple[NameEntry, syscalls.Group, list[str]]] = {}
    for call, (entry, group) in members.items():
        found.setdefault(group.name, (entry, group, []))[2].append(call)
    return tuple(
        PlanSyscallGroup(name, group.reason, _origin(entry.origin), tuple(sorted(calls)))
        for name, (entry, group, calls) in sorted(found.items())
    )


def _allow(name: str, reason: str, origin: Origin, when: tuple[Condition, ...]) -> PlanSyscallAllow:
    conditions = tuple(
        PlanCondition(condition.arg, cast(Any, condition.op), condition.value, condition.mask)
        for condition in when
    )
    return PlanSyscallAllow(name, reason, _origin(origin), conditions)
