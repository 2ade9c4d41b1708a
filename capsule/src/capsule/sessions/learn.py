"""From recorded sessions to what a policy would have to grant: uses of files and programs, and host entries. Pure.

What was allowed is learnt; what was refused is listed beside it, and learnt only when asked for. It refuses to widen:
a host entry has the methods and ports that were used, and paths as long as there are few; a path that servers may read
in two ways, or that cannot be written as a pattern, is not written, and said.

    seen = Learner(); seen.add(happened); seen.hosts()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from capsule.policy.addresses import HostError, forbidden, normalise_host
from capsule.policy.model import DEFAULT_PORTS
from capsule.policy.urlpath import PathRefused, path_segments, target_of
from capsule.rules.entry import text, words
from capsule.sessions.environment import Environment
from capsule.sessions.replay import decided, refused_by_all, times
from capsule.sessions.subject import OURS, place_of, subject_of

MAX_PATHS = 6
"""So many paths are listed one by one; more become patterns of their first segments, or none."""
MAX_HOSTS = 500
MAX_NAMES = 10_000
FILE_COUNT = {
    "read": "read", "write": "write", "create": "create", "remove": "remove", "rename": "change", "link": "create",
    "change": "change",
}  # fmt: skip
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HostGrant:
    """A host entry in the making; `paths` None: any."""

    host: str
    ports: tuple[int, ...]
    methods: tuple[str, ...] | None
    paths: tuple[str, ...] | None
    count: int
    private: bool = False
    warning: str | None = None

    def entry(self) -> str:
        """As written in a policy: a flow mapping of plain and double-quoted scalars."""
        parts = [f'host: "{self.host}"']
        if set(self.ports) != set(DEFAULT_PORTS):
            parts.append(f"ports: [{', '.join(map(str, self.ports))}]")
        if self.methods is not None:
            parts.append(f"methods: [{', '.join(self.methods)}]")
        if self.paths is not None:
            parts.append("paths: [" + ", ".join(f'"{path}"' for path in self.paths) + "]")
        if self.private:
            parts.append("private: true")
        return "{" + ", ".join(parts) + "}"


@dataclass(slots=True)
class _Host:
    ports: Counter[int] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    paths: Counter[tuple[bytes, ...]] = field(default_factory=Counter)
    odd: int = 0
    passed: int = 0


@dataclass(slots=True)
class Learner:
    """What sessions used, counted.

    Attributes:
        refused: take what was refused as if it had been allowed.
        files: path → kind of use → count.
        programs: path → count.
        addresses: `tcp:HOST:PORT` of the host's loopback, `unix:PATH` → count.
        denied: what was refused and is not learnt → count.
        left_out: what cannot be put into a policy → count.
        secrets: names of the secrets that were put into requests → count.
        environment: what they were given.
        unset: names that were set to what is not known, or better not copied.
    """

    refused: bool = False
    files: dict[str, Counter[str]] = field(default_factory=dict)
    programs: Counter[str] = field(default_factory=Counter)
    addresses: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    secrets: Counter[str] = field(default_factory=Counter)
    environment: Environment = field(default_factory=Environment)
    unset: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _hosts: dict[str, _Host] = field(default_factory=dict)

    def add(self, kind: str, event: Json) -> None:
        """One event more."""
        section = event.get(kind)
        section = section if isinstance(section, dict) else {}
        if kind == "dns":
            self._name(section)
            return
        if kind == "tcp" and (name := self._names.get(text(section.get("address")) or "")):
            section = {"host": name, **section}
            event = {**event, "tcp": section}
        if decided(event) == "block" and (not self.refused or refused_by_all(event) is not None):
            denial = event.get("denial")
            if not (isinstance(denial, dict) and denial.get("probe") is True):
                self.denied[subject_of({**event, "event": {"type": kind}})] += times(event)
            return
        make = {"file": self._file, "process": self._process, "tcp": self._tcp, "http": self._http}.get(kind)
        if make is not None:
            make(section, times(event))

    def _name(self, dns: Json) -> None:
        """What an address of the run's own pool stood for (`capsule.egress.pool`)."""
        address, name = text(dns.get("answer")), text(dns.get("name"))
        if address and name and len(self._names) < MAX_NAMES:
            self._names[address] = name

    def _file(self, file: Json, count: int) -> None:
        operation = text(file.get("operation")) or ""
        for name in ("from", "path"):
            path = text(file.get(name))
            if path is not None and path.startswith(OURS):
                continue
            if path is not None and path.startswith("/") and operation in FILE_COUNT:
                use = "remove" if name == "from" and operation == "rename" else FILE_COUNT[operation]
                self.files.setdefault(path, Counter())[use] += count

    def _process(self, process: Json, count: int) -> None:
        path = text(process.get("path"))
        if path is not None and path.startswith("/"):
            self.programs[path] += count
            self.files.setdefault(path, Counter())["execute"] += count

    def _tcp(self, tcp: Json, count: int) -> None:
        address = text(tcp.get("address")) or ""
        if address.startswith("unix:"):
            self.addresses[address] += count
            return
        name, port = text(tcp.get("host")) or text(tcp.get("sni")) or address, tcp.get("port")
        if name in ("127.0.0.1", "::1", "localhost"):
            self.addresses[f"tcp:127.0.0.1:{port}"] += count
            return
        found = self._host(name) if isinstance(port, int) else None
        if found is None or not isinstance(port, int):
            self.left_out[f"connect {place_of(tcp)}"] += count
            return
        found.passed += count
        found.ports[port] += count

    def _http(self, http: Json, count: int) -> None:
        name, port, method = text(http.get("host")) or "", http.get("port"), text(http.get("method")) or ""
        plain = method.isascii() and method.isalpha() and method.isupper()
        found = self._host(name) if plain and isinstance(port, int) else None
        if found is None or not isinstance(port, int):
            self.left_out[f"{method} {name}"] += count
            return
        found.ports[port] += count
        found.methods[method] += count
        for secret in words(http.get("secret")):
            self.secrets[secret] += count
        try:
            url, path = text(http.get("url")), text(http.get("path")) or "/"
            found.paths[path_segments(target_of(url) if url and path.startswith("/") else path)] += count
        except PathRefused:
            found.odd += count

    def _host(self, name: str) -> _Host | None:
        try:
            host = normalise_host(name).name
        except HostError:
            return None
        if host not in self._hosts and len(self._hosts) >= MAX_HOSTS:
            return None
        return self._hosts.setdefault(host, _Host())

    def hosts(self) -> list[HostGrant]:
        """The host entries that cover it all, by name."""
        return [_grant(name, use) for name, use in sorted(self._hosts.items())]


def _grant(name: str, use: _Host) -> HostGrant:
    ports, remarks = tuple(sorted(use.ports)), []
    literal = normalise_host(name).address
    private = literal is not None and forbidden(literal) is not None
    if private:
        remarks.append("an address that is not public")
    if use.passed:  # what went through without being looked into has no method and no path
        remarks.append("its connections were not looked into: anything may be sent there")
        return HostGrant(
            name, ports, None, None, use.passed + use.methods.total(), private, "; ".join(remarks)
        )
    paths = None if use.odd else _patterns(use.paths)
    if use.odd:
        remarks.append(f"{use.odd} of its paths can be read in two ways: none are named")
    elif paths is None:
        remarks.append("its paths are too many, or cannot be written as patterns: none are named")
    writing = sorted(method for method in use.methods if method not in ("GET", "HEAD", "OPTIONS"))
    if writing:
        remarks.append(f"data leaves by {', '.join(writing)}")
    warning = "; ".join(remarks) or None
    return HostGrant(name, ports, tuple(sorted(use.methods)), paths, use.methods.total(), private, warning)


def _patterns(paths: Counter[tuple[bytes, ...]]) -> tuple[str, ...] | None:
    """The paths, or the longest beginnings that few patterns cover; None when nothing narrow is left."""
    if len(paths) <= MAX_PATHS:
        written = [_written(segments) for segments in paths]
        if None not in written:
            return tuple(sorted(found for found in written if found is not None))
    depths = range(max(map(len, paths)) - 1, 0, -1)
    return next((found for depth in depths if (found := _beginnings(paths, depth)) is not None), None)


def _beginnings(paths: Counter[tuple[bytes, ...]], depth: int) -> tuple[str, ...] | None:
    """Patterns of the first segments of paths; None where they are too many, or one cannot be written."""
    tops = {segments[:depth] for segments in paths}
    found = []
    for top in tops:
        written = _written(top)
        if written is None or len(tops) > MAX_PATHS:
            return None
        deeper = any(len(segments) > depth for segments in paths if segments[:depth] == top)
        found.append(f"{written.rstrip('/')}/**" if deeper else written)
    return tuple(sorted(found))


def _written(segments: tuple[bytes, ...]) -> str | None:
    """A decoded path as a pattern that means it alone; None where the language has no way to write it."""
    try:
        path = "/" + "/".join(segment.decode("ascii") for segment in segments)
    except UnicodeDecodeError:
        return None
    return path if path.isprintable() and not set(path) & set('*?[]{}"\\#% ') and len(path) < 1000 else None
