"""Who may be reached, and with which requests: the host entries of a plan, ready to be asked.

Pure, and the one place that decides it: egress asks while a command runs, `capsule policy explain` and `test` before.
Entries of one host and port are alternatives: what any of them lets through is let through. Refused: what no entry
lists, and a path that servers may read differently where an entry has `paths`.

    grants = Grants(plan.network.egress)
    grants.names("api.github.com")                                       # an entry, or None: NXDOMAIN
    grants.request("api.github.com", 443, "GET", "/repos/acme/site")     # an entry, or a Refusal
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Generic, Protocol, TypeVar

from capsule.policy.addresses import forbidden
from capsule.policy.model import DEFAULT_PORTS
from capsule.policy.urlpath import PathGlob, PathRefused, path_segments

# Hosts whose traffic is understood as model calls, and therefore inspected under `inspect: auto`.
MODEL_HOSTS = (
    "api.anthropic.com", "api.openai.com", "*.openai.azure.com", "generativelanguage.googleapis.com",
    "*.aiplatform.googleapis.com", "api.mistral.ai", "api.groq.com", "openrouter.ai", "api.deepseek.com",
)  # fmt: skip


class HostEntry(Protocol):
    """A host entry of a plan, whoever decoded it."""

    @property
    def host(self) -> str:
        """A name, `*.suffix` or an IPv4 address."""
        ...

    @property
    def ports(self) -> Sequence[int]:
        """TCP ports."""
        ...

    @property
    def methods(self) -> Sequence[str] | None:
        """HTTP methods; None: any."""
        ...

    @property
    def paths(self) -> Sequence[str] | None:
        """Globs over the path; None: any."""
        ...

    @property
    def inspect(self) -> str:
        """`auto`, `always` or `never`."""
        ...

    @property
    def private(self) -> bool:
        """Whether it may lead to an address that is not public."""
        ...

    @property
    def credential(self) -> str | None:
        """The secret whose placeholder a request has to carry; None: no such bound."""
        ...


class Secret(Protocol):
    """A secret of a plan, as far as it matters here."""

    @property
    def to(self) -> Sequence[str]:
        """Hosts it goes to."""
        ...


E = TypeVar("E", bound=HostEntry)
S = TypeVar("S", bound=Secret)
E_co = TypeVar("E_co", bound=HostEntry, covariant=True)
S_co = TypeVar("S_co", bound=Secret, covariant=True)


class Budget(Protocol):
    """What a run may use; None is no bound."""

    @property
    def requests(self) -> int | None:
        """HTTP requests."""
        ...

    @property
    def tokens(self) -> int | None:
        """Tokens of model calls."""
        ...

    @property
    def microdollars(self) -> int | None:
        """Their price."""
        ...


class Egress(Protocol[E_co, S_co]):
    """`network.egress` of a plan."""

    @property
    def hosts(self) -> Sequence[E_co]:
        """The entries, in the order of the policy."""
        ...

    @property
    def secrets(self) -> Sequence[S_co]:
        """The secrets."""
        ...

    @property
    def rules(self) -> Sequence[Any]:
        """The rule files."""
        ...

    @property
    def budget(self) -> Budget | None:
        """The bounds of the run."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let through: one clause for a person, and the line that would allow it."""

    reason: str
    allow: str


@dataclass(frozen=True, slots=True)
class _Compiled(Generic[E]):
    entry: E
    paths: tuple[PathGlob, ...] | None


class Grants(Generic[E, S]):
    """The host entries of one run."""

    def __init__(self, egress: Egress[E, S]) -> None:
        """From `network.egress` of a plan, which the compiler or the launcher has checked."""
        self._egress = egress
        self._exact: dict[str, list[_Compiled[E]]] = {}
        self._below: dict[str, list[_Compiled[E]]] = {}
        for entry in egress.hosts:
            paths = None if entry.paths is None else tuple(PathGlob.parse(path) for path in entry.paths)
            wild = entry.host.startswith("*.")
            table = self._below if wild else self._exact
            table.setdefault(entry.host[2:] if wild else entry.host, []).append(_Compiled(entry, paths))
        budget = egress.budget
        # A placeholder that is sent where no secret goes is only found by looking.
        self._looks_always = bool(egress.rules or egress.secrets) or (
            budget is not None
            and any(bound is not None for bound in (budget.requests, budget.tokens, budget.microdollars))
        )

    def _of(self, host: str) -> list[_Compiled[E]]:
        """The entries that cover a host: of its very name first, then of the longest suffix."""
        found = list(self._exact.get(host, ()))
        suffix = host
        while (dot := suffix.find(".")) >= 0:
            suffix = suffix[dot + 1 :]
            found += self._below.get(suffix, ())
        return found

    def names(self, host: str, port: int | None = None) -> E | None:
        """The most specific entry that covers a name (and a port), or None: then the name does not exist inside.

        Args:
            host: as `normalise_host` gives it.
            port: None: any of the entry's.
        """
        for found in self._of(host):
            if port is None or port in found.entry.ports:
                return found.entry
        return None

    def at(self, host: str, port: int) -> tuple[E, ...]:
        """Every entry of a host and port, the most specific first: the alternatives."""
        return tuple(found.entry for found in self._of(host) if port in found.entry.ports)

    def request(self, host: str, port: int, method: str, path: str) -> E | Refusal:
        """The entry that lets a request through; of several the one that asks least: no credential, then `private`.

        Args:
            host: as `normalise_host` gives it.
            port: of the connection.
            method: as it stands in the request; methods are compared with their case (RFC 9110 9.1).
            path: as it stands in the request, with or without its query.
        """
        covering = self._of(host)
        if not covering:
            return Refusal(f"no host entry lists {host}", f"network: hosts: [{_quoted(host)}]")
        here = [found for found in covering if port in found.entry.ports]
        if not here:
            return Refusal(
                f"no entry of {host} has port {port}",
                f"network: hosts: [{{host: {_quoted(host)}, ports: [{port}]}}]",
            )
        able = [found for found in here if found.entry.methods is None or method in found.entry.methods]
        if not able:
            return Refusal(
                f"no entry of {host} has the method {method[:40]}",
                f"network: hosts: [{{host: {_quoted(host)}, methods: [{method[:40]}]}}]",
            )
        fitting = [found.entry for found in able if found.paths is None]
        if any(found.paths is not None for found in able):
            try:
                segments = path_segments(path)
            except PathRefused as refused:
                if not fitting:
                    return Refusal(str(refused), f"network: hosts: [{{host: {_quoted(host)}}}] without paths")
            else:
                fitting = [
                    found.entry
                    for found in able
                    if found.paths is None or any(glob.matches(segments) for glob in found.paths)
                ]
        if not fitting:
            shown = path.partition("?")[0][:200]
            return Refusal(
                f"no entry of {host} has the path {shown}",
                f"network: hosts: [{{host: {_quoted(host)}, methods: [{method[:40]}], paths: [{_quoted(shown)}]}}]",
            )
        return min(fitting, key=lambda entry: (entry.credential is not None, not entry.private))

    def private(self, host: str, port: int) -> bool:
        """Whether a connection that is passed on unseen may lead to an address that is not public.

        It is let through by the entries of the most specific host when they say `never`, else by every one of them.
        A request that is seen has the entry of its own (`request`).
        """
        entries = self.at(host, port)
        nearest = [entry for entry in entries if entry.host == entries[0].host]
        passing = nearest if any(entry.inspect == "never" for entry in nearest) else entries
        return any(entry.private for entry in passing)

    def secrets(self, host: str) -> tuple[S, ...]:
        """The secrets that go to a host."""
        return tuple(secret for secret in self._egress.secrets if any(covers(to, host) for to in secret.to))

    def needs_inspection(self, host: str, port: int) -> bool:
        """Whether the content of a connection is looked at, rather than passed on after the server name was checked.

        The entries of the most specific host say `never`; else one that says `always`, or under `auto` any secret or
        rule of the policy, methods, paths, a credential, a budget of requests, tokens or dollars, or a model provider.
        """
        entries = self.at(host, port)
        if not entries:
            return self._looks_always
        nearest = [entry for entry in entries if entry.host == entries[0].host]
        if any(entry.inspect == "never" for entry in nearest):
            return False
        return (
            self._looks_always
            or any(covers(model, host) for model in MODEL_HOSTS)
            or any(
                entry.inspect == "always"
                or entry.methods is not None
                or entry.paths is not None
                or entry.credential is not None
                for entry in entries
            )
        )


def covers(pattern: str, host: str) -> bool:
    """Whether a host entry's `host` covers another one: the same, or `*.suffix` and one label or more before it.

    `host` may itself be `*.suffix`.
    """
    if not pattern.startswith("*."):
        return pattern == host
    # `*.a` covers `*.a` and `*.b.a`, never `a`.
    return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1


def would_reach(host: str, port: int) -> str:
    """The line of a policy that lets something through to a name or a literal address, at a port."""
    try:
        literal = ip_address(host)
    except ValueError:
        literal = None
    if literal is not None and literal.is_loopback:
        return f"network: ports: [{port}]"
    more = [] if port in DEFAULT_PORTS else [f"ports: [{port}]"]
    more += ["private: true"] * (literal is not None and forbidden(literal) is not None)
    return (
        f"network: hosts: [{{{', '.join([f'host: {host}', *more])}}}]"
        if more
        else f"network: hosts: [{host}]"
    )


def _quoted(text: str) -> str:
    return f'"{text}"' if text[:1] in "*/" else text
