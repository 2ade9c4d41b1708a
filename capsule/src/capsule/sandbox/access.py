"""What a plan decides about a path, an address, a request, a call or a variable; launcher and egress decide the same.

A path must be absolute and resolved. A deny wins over everything and a protect over every grant to write;
then the most specific of hide, private and the grants counts (of one path: first hide, then private, then the
grants). To execute in a private directory takes an `execute` grant; a `read` beneath a `write` takes writing
away.

    access = Access(plan, Variables("/w", "/home/u", "/w"))
    access.path("/home/u/.ssh/id_ed25519", "read").kind     # 'hidden'
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from capsule.policy.addresses import HostError, normalise_host
from capsule.policy.environment import passes
from capsule.policy.glob import Pattern, matches_name, split
from capsule.policy.grants import Grants, Refusal, would_reach
from capsule.policy.model import DEFAULT_PORTS, Environment, Origin
from capsule.policy.paths import bracketed, plainly, shown
from capsule.policy.request import Request
from capsule.sandbox import syscalls
from capsule.sandbox.hosts import relied_on
from capsule.sandbox.plan import Plan, PlanHost, PlanOrigin

Want = Literal["read", "write", "execute"]
Kind = Literal["granted", "denied", "protected", "hidden", "not_granted"]
Guard = Literal["deny", "protect", "repository"]
"""What a pattern does; a protect `**/.git/…` does not hold in a repository of the run's own, nor in private places."""


@dataclass(frozen=True, slots=True)
class Variables:
    """The directories a plan's variables stand for: absolute and resolved."""

    workspace: str
    home: str
    cwd: str

    def path(self, text: str) -> str:
        """A path of a plan as an absolute one."""
        directory, rest = self._apart(plainly(text))
        return (directory.rstrip("/") + rest) or "/"

    def pattern(self, text: str) -> Pattern:
        """A pattern of a plan, ready to be asked. What a variable stands for is a name, whatever signs are in it."""
        directory, rest = self._apart(text)
        return Pattern.parse(rest, beneath=directory)

    def _apart(self, text: str) -> tuple[str, str]:
        """The directory that the variable of a path or pattern stands for, "" without one, and what follows it."""
        for name, value in (("${workspace}", self.workspace), ("${home}", self.home), ("${cwd}", self.cwd)):
            if text == name or text.startswith(name + "/"):
                return value, text[len(name) :]
        return "", text

    def written(self, path: str) -> str:
        """An absolute path as a person writes it in a policy."""
        for sign, value in ((".", self.workspace), ("~", self.home)):
            if path == value or path.startswith(value.rstrip("/") + "/"):
                return sign + bracketed(path[len(value.rstrip("/")) :])
        return bracketed(path)


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of the policy: `text` as it would be written, and where it is."""

    text: str
    origin: PlanOrigin


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided, the line that decided it, and the line that would allow it.

    `own` is set where no line decides, but capsule itself: why it is so, and what could be done instead.
    """

    kind: Kind
    rule: Rule | None = None
    allow: str | None = None
    own: str | None = None

    @property
    def granted(self) -> bool:
        """Whether it is allowed."""
        return self.kind == "granted"


_LISTED = 3
"""Programs that are named of a list of them."""


@dataclass(slots=True)
class _State:
    """What holds at one directory on the way to a path; each grant with the line it came from."""

    read: Rule | None = None
    write: Rule | None = None
    execute: Rule | None = None
    program: Rule | None = None
    protect: Rule | None = None
    repository: Rule | None = None
    private: bool = False
    limit: Rule | None = None
    hidden: bool = False


@dataclass(slots=True)
class _Marks:
    """What the plan says about one path."""

    areas: dict[str, Rule] = field(default_factory=dict)
    patterns: list[tuple[Pattern, Rule, Guard]] = field(default_factory=list)


def without(rules: list[Rule]) -> str | None:
    """What takes lines out: an entry for the policy that extends a preset; for a file of one's own, where they are.

    None where egress relies on what is kept: there is no such line.
    """
    removed: dict[str, list[str]] = {}
    said = []
    for rule in rules:
        if not rule.text.startswith("filesystem: "):
            return None
        field_name, _, text = rule.text.removeprefix("filesystem: ").partition(": ")
        if rule.origin.file.startswith("preset:"):
            removed.setdefault(field_name, []).append(text[1:-1])
        else:
            said.append(
                f"take {text[1:-1]} out of filesystem: {field_name} at {rule.origin.file}:{rule.origin.line}"
            )
    lines = [f"filesystem: {{{name}: {{remove: [{', '.join(texts)}]}}}}" for name, texts in removed.items()]
    return " and ".join(lines + said)


def shown_host(entry: PlanHost) -> str:
    """A host entry as a policy writes it, without what is so by default."""
    quoted = f'"{entry.host}"' if entry.host.startswith("*") else entry.host
    parts = [f"host: {quoted}"]
    if tuple(entry.ports) != DEFAULT_PORTS:
        parts.append(f"ports: {list(entry.ports)}")
    if entry.methods is not None:
        parts.append(f"methods: [{', '.join(entry.methods)}]")
    if entry.paths is not None:
        parts.append("paths: [" + ", ".join(f'"{path}"' for path in entry.paths) + "]")
    if entry.inspect != "auto":
        parts.append(f"inspect: {entry.inspect}")
    if entry.private:
        parts.append("private: true")
    if entry.credential is not None:
        parts.append(f"credential: {entry.credential}")
    return f"network: hosts: [{{{', '.join(parts)}}}]" if len(parts) > 1 else f"network: hosts: [{quoted}]"


def _plan_origin(origin: Origin) -> PlanOrigin:
    return PlanOrigin(origin.file, origin.line, origin.column)


class Access:
    """A plan, ready to be asked."""

    def __init__(self, plan: Plan, variables: Variables, environment: Environment | None = None) -> None:
        """From a plan.

        Args:
            plan: what is enforced.
            variables: what its variables stand for.
            environment: the policy's own section: the plan keeps no lines for it. None: nothing is passed.
        """
        self.environment = environment if environment is not None else Environment()
        self.plan = plan
        self.variables = variables
        self.grants = None if plan.network.egress is None else Grants(plan.network.egress)
        self._marks: dict[tuple[bytes, ...], _Marks] = {}
        fs = plan.filesystem
        for name, places in (("hide", fs.hide), ("private", fs.private)):
            for place in places:
                self._area(name, place.path, place.origin)
        for name, grants in (("read", fs.read), ("write", fs.write), ("execute", fs.execute)):
            for grant in grants:
                self._area(name, grant.path, grant.origin)
        programs = plan.process.programs or ()
        for program in programs:
            self._area("program", program.path, program.origin)
        self._programs: Rule | None = None
        """The list of programs, as the line that keeps all others out; it stands where its first entry does."""
        if programs:
            named = [f'"{shown(program.path)}"' for program in programs[:_LISTED]]
            named += ["…"] if len(programs) > _LISTED else []
            self._programs = Rule(f"process: programs: [{', '.join(named)}]", programs[0].origin)
        relied = relied_on(plan.network.egress)
        for name, rules in (("deny", fs.deny), ("protect", fs.protect)):
            for entry in rules:
                pattern = variables.pattern(entry.pattern)
                section = relied.get((entry.pattern, entry.origin), f"filesystem: {name}")
                rule = Rule(f'{section}: ["{shown(entry.pattern)}"]', entry.origin)
                guard: Guard = "deny" if name == "deny" else "protect"
                if guard == "protect" and pattern.in_any_repository:
                    guard = "repository"
                self._at(pattern.anchor).patterns.append((pattern, rule, guard))

    def _at(self, key: tuple[bytes, ...]) -> _Marks:
        return self._marks.setdefault(key, _Marks())

    def _area(self, name: str, path: str, origin: PlanOrigin) -> None:
        section = "process: programs" if name == "program" else f"filesystem: {name}"
        rule = Rule(f'{section}: ["{shown(path)}"]', origin)
        self._at(tuple(split(self.variables.path(path)))).areas[name] = rule

    def path(self, path: str, want: Want, *, own: bool = False) -> Decision:
        """Whether this use of an absolute, resolved path is granted.

        Args:
            path: what is used.
            want: how.
            own: it lies in a repository that the run itself made, where lines about repositories do not hold.
        """
        segments = split(path)
        if not path.startswith("/") or b"." in segments or b".." in segments:
            return Decision("not_granted")
        state = _State()
        for marks, rest in self._walk(segments):
            for pattern, rule, guard in marks.patterns:
                if own and guard == "repository":
                    continue
                held = {"deny": None, "protect": state.protect, "repository": state.repository}[guard]
                if held is None and pattern.covers_below(rest):
                    if guard == "deny":
                        return Decision("denied", rule, self._without_deny(rule, path, want))
                    if guard == "protect":
                        state.protect = rule
                    else:
                        state.repository = rule
            self._enter(state, marks.areas)
        return self._judge(path, want, state)

    def _without_deny(self, rule: Rule, path: str, want: Want) -> str | None:
        """What would allow what a deny refuses: the line taken out, and where nothing else grants it, a grant."""
        state = _State()
        for marks, _ in self._walk(split(path)):
            self._enter(state, marks.areas)
        out = without([rule])
        if out is None:
            return None
        if {"read": state.read, "write": state.write, "execute": state.execute}[want] is not None:
            return out
        return f'{out} and filesystem: {want}: ["{self.variables.written(path)}"]'

    def keeps_repositories(self, path: str) -> bool:
        """Whether lines about repositories speak to an absolute path: they do not in a private directory."""
        state, kept = _State(), False
        for marks, _ in self._walk(split(path)):
            kept = kept or any(guard == "repository" for _, _, guard in marks.patterns)
            self._enter(state, marks.areas)
        return kept and not state.private

    def about_repositories(self) -> Decision:
        """The refusal of a `.git` itself: the first line about repositories, and what takes out all of them."""
        found = (entry for marks in self._marks.values() for entry in marks.patterns)
        rules = list(dict.fromkeys(rule for _, rule, guard in found if guard == "repository"))
        return Decision("protected", rules[0], without(rules)) if rules else Decision("not_granted")

    def _walk(self, segments: list[bytes]) -> Iterator[tuple[_Marks, list[bytes]]]:
        for depth in range(len(segments) + 1):
            marks = self._marks.get(tuple(segments[:depth]))
            if marks is not None:
                yield marks, segments[depth:]

    @staticmethod
    def _enter(state: _State, areas: dict[str, Rule]) -> None:
        if areas.keys() & {"hide", "read", "write", "private"}:
            state.private = "private" in areas and "read" not in areas and "write" not in areas
        if "hide" in areas:
            state.read = state.write = state.execute = None
            state.limit, state.hidden = areas["hide"], True
        if "private" in areas:
            state.read = state.write = state.limit = areas["private"]
            state.execute, state.hidden = None, False
        if "read" in areas:
            state.read = state.limit = areas["read"]
            state.write, state.hidden = None, False
        if "write" in areas:
            state.read = state.write = areas["write"]
            state.limit, state.hidden = None, False
        if "execute" in areas:
            state.execute, state.hidden = areas["execute"], False
        state.program = areas.get("program", state.program)

    def _judge(self, path: str, want: Want, state: _State) -> Decision:
        listed = self.plan.process.programs is not None
        if want == "write" and state.protect is not None:
            return Decision("protected", state.protect, without([state.protect]))
        if want == "write" and state.repository is not None and not state.private:
            return Decision("protected", state.repository, without([state.repository]))
        rule: Rule | None = {"read": state.read, "write": state.write, "execute": state.execute}[want]
        if rule is not None and not (want == "execute" and listed and state.program is None):
            return Decision("granted", rule)
        name = f'"{self.variables.written(path)}"'
        if rule is None:
            return Decision(
                "hidden" if state.hidden else "not_granted", state.limit, f"filesystem: {want}: [{name}]"
            )
        kind: Kind = "hidden" if state.hidden else "not_granted"
        return Decision(kind, self._programs or state.limit, f"process: programs: [{name}]")

    def syscall(self, name: str) -> tuple[Decision, tuple[str, ...]]:
        """Whether a system call is granted, and under which conditions (any one of them; none: always)."""
        group = syscalls.group_of(name)
        if group is not None and group.kind == "never":
            return Decision("denied", own=f"{group.errno}: {group.reason}; no policy can allow it"), ()
        for denied in self.plan.syscalls.deny:
            if denied.name == name:
                return Decision("denied", Rule(f"{denied.errno}: {denied.reason}", denied.origin)), ()
        found = [entry for entry in self.plan.syscalls.allowed() if entry.name == name]
        if not found:
            return Decision("not_granted", None, f"syscalls: allow: [{name}]"), ()
        conditions = tuple(
            " and ".join(
                f"arg{c.arg} & {c.mask:#x} == {c.value:#x}"
                if c.mask is not None
                else f"arg{c.arg} {c.op} {c.value:#x}"
                for c in entry.when
            )
            for entry in found
        )
        return Decision(
            "granted", Rule(found[0].reason, found[0].origin)
        ), () if "" in conditions else conditions

    def variable(self, name: str) -> Decision:
        """Whether a variable reaches the command: a placeholder and `set` win over `scrub`, and that over `pass`."""
        put = self.puts(name)
        if put is not None:
            return put
        for entry in self.environment.scrub.add:
            if matches_name(entry.name, name):
                return Decision("denied", Rule(f'env: scrub: ["{entry.name}"]', _plan_origin(entry.origin)))
        for entry in self.environment.passed.add:
            if passes(entry.name, name):
                return Decision("granted", Rule(f'env: pass: ["{entry.name}"]', _plan_origin(entry.origin)))
        return Decision("not_granted", None, f"env: pass: [{name}]")

    def puts(self, name: str) -> Decision | None:
        """The line that gives a variable a value, whatever the caller has: a placeholder of a secret, or `set`."""
        egress = self.plan.network.egress
        for secret in egress.secrets if egress is not None else ():
            if secret.env == name:
                return Decision("granted", Rule(f"secrets: the placeholder of {secret.name}", secret.origin))
        setting = self.environment.set.get(name)
        if setting is None:
            return None
        return Decision("granted", Rule(f"env: set: {{{name}: …}}", _plan_origin(setting.origin)))

    def address(self, address: str) -> Decision:
        """Whether `tcp:HOST:PORT` or `unix:PATH` of the host can be reached."""
        network = self.plan.network
        if address.startswith("unix:"):
            path = address.removeprefix("unix:")
            for grant in network.unix:
                granted = self.variables.path(grant.path)
                if path == granted or path.startswith(granted.rstrip("/") + "/"):
                    return Decision("granted", Rule(f'network: unix: ["{shown(grant.path)}"]', grant.origin))
            decision = self.path(path, "write")
            if decision.granted:
                return decision
            return Decision("not_granted", None, f'network: unix: ["{self.variables.written(path)}"]')
        host, _, port = address.removeprefix("tcp:").rpartition(":")
        if network.mode == "open":
            return Decision("granted", Rule("network: mode: open", network.origin))
        if host not in {"127.0.0.1", "localhost", "[::1]"}:
            return self._reach(host, int(port))
        if int(port) in network.ports:
            return Decision("granted", Rule(f"network: ports: [{port}]", network.origin))
        return Decision("not_granted", None, f"network: ports: [{port}]")

    def _reach(self, host: str, port: int) -> Decision:
        """Whether any request to a host and port is let through."""
        if self.grants is None:
            return self._closed(host, port)
        try:
            name = normalise_host(host).name
        except HostError:
            return Decision("not_granted")
        entry = self.grants.names(name, port)
        if entry is None:
            return Decision("not_granted", None, would_reach(name, port))
        return Decision("granted", Rule(shown_host(entry), entry.origin))

    def _closed(self, host: str, port: int) -> Decision:
        rule = Rule("network: mode: none", self.plan.network.origin)
        return Decision("not_granted", rule, would_reach(host, port))

    def request(self, request: Request) -> Decision:
        """Whether a host entry lets an HTTP request through. Rules, budgets and addresses are decided in the run."""
        network = self.plan.network
        if network.mode == "open":
            return Decision("granted", Rule("network: mode: open", network.origin))
        if self.grants is None:
            return self._closed(request.host, request.port)
        found = self.grants.request(request.host, request.port, request.method, request.path)
        if isinstance(found, Refusal):
            nearest = self.grants.names(request.host, request.port) or self.grants.names(request.host)
            rule = Rule(shown_host(nearest), nearest.origin) if nearest is not None else None
            return Decision("not_granted", rule, found.allow)
        return Decision("granted", Rule(shown_host(found), found.origin))
