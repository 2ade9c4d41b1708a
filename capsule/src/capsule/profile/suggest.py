"""From an observation to a small policy: every line with its evidence, risky lines marked. Pure.

What it refuses: to suggest a grant of everything (``/``, a whole home); such uses are listed as comments instead.

    suggestion = suggest(observation, base=base_of_strict)
    text = render_suggestion(suggestion)      # a capsule.yaml
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capsule.policy.paths import bracketed
from capsule.profile.collapse import Collapsed, collapse
from capsule.profile.observation import FileUse, Observation
from capsule.profile.sensitive import why_sensitive, why_sensitive_address
from capsule.sandbox.syscalls import group_of, groups

_TOO_WIDE = ("/", "/home", "/var", "/mnt", "/media", "/srv", "/proc", "/dev", "/sys", "/run")

_LOOPBACK = ("127.0.0.1", "[::1]")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the suggested policy.

    Attributes:
        section: as ``filesystem.read``.
        value: what is written in the policy.
        subject: the resolved path or address it stands for.
        evidence: how often it was used, as words.
        count: how often it was used.
        warning: why a person should look twice, or None.
    """

    section: str
    value: str
    subject: str
    evidence: str
    count: int
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """What the preset underneath grants already: resolved path prefixes, and syscall groups.

    ``guards`` are the names that no command may change where anything may be written, resolved but for globs.
    """

    preset: str
    read: tuple[str, ...]
    write: tuple[str, ...]
    execute: tuple[str, ...]
    private: tuple[str, ...]
    groups: tuple[str, ...]
    guards: tuple[str, ...] = ()

    def covers(self, want: str, path: str) -> bool:
        """Whether the preset grants this already."""
        tops = {
            "read": self.read + self.write + self.private,
            "write": self.write + self.private,
            "execute": self.execute,
        }
        return any(path == top or path.startswith(top.rstrip("/") + "/") for top in tops[want])


@dataclass(frozen=True, slots=True)
class Refused:
    """A sensitive place that was tried and refused: not granted, and worth knowing."""

    path: str
    count: int
    warning: str


@dataclass(frozen=True, slots=True)
class Unreached:
    """An address that was tried in vain: not granted, and perhaps meant.

    Attributes:
        address: as it was tried.
        count: how often.
        why: what became of it.
        rule: the line that would allow it, where there is one.
    """

    address: str
    count: int
    why: str
    rule: str | None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A policy in the making; ``place`` is the directory that its relative paths are read from."""

    observation: Observation
    base: Base
    lines: tuple[Line, ...]
    unused_groups: tuple[str, ...]
    too_wide: tuple[str, ...]
    private: tuple[str, ...]
    refused: tuple[Refused, ...]
    place: str
    protect: tuple[str, ...] = ()
    unreached: tuple[Unreached, ...] = ()


def suggest(seen: Observation, *, base: Base, place: str | None = None) -> Suggestion:
    """The smallest policy over ``base`` under which what was seen would have been allowed.

    Args:
        seen: the observation.
        base: what the preset beneath grants.
        place: the directory the policy will lie in, absolute; None for the workspace that was observed.
    """
    place = seen.workspace if place is None else place
    never = frozenset(
        (*_TOO_WIDE, *_ancestors(seen.workspace), *_ancestors(seen.home), seen.home)
        if seen.home
        else _TOO_WIDE
    )
    private = tuple(top for top in _TEMPORARY if _used_below(seen.files, top, seen.workspace))
    lines: list[Line] = []
    for want in ("read", "write", "execute"):
        uses, whole = _uses(seen.files, want)
        uses = {
            p: n
            for p, n in uses.items()
            if not base.covers(want, p) and not _thrown_away(p, private, seen.workspace)
        }
        wide = {path for path in whole if path in never}
        granted = collapse(
            uses, whole={p for p in whole if p in uses or _has_below(uses, p)} - wide, never=never
        )
        lines += [_line(want, grant, seen, place) for grant in granted if grant.path not in never]
    writes = tuple(line.subject for line in lines if line.section == "filesystem.write")
    lines = [
        line for line in lines if not (line.section == "filesystem.read" and _below_any(line.subject, writes))
    ]
    lines += _addresses(seen, place)
    groups_used = _groups(seen)
    lines += [
        Line("syscalls.groups", name, name, f"{count} calls", count)
        for name, count in sorted(groups_used.items())
        if name not in base.groups
    ]
    listed = sorted(use.path for use in seen.files if use.list and use.path in never)
    unused = tuple(sorted(name for name in base.groups if name not in groups_used))
    # What runs on the host later (git's hooks, settings of editors) stays as it is, whatever may be written around it.
    protect = tuple("".join(_apart(guard, seen, place)) for guard in base.guards) if writes else ()
    refused, unreached = _refused(seen, place), _unreached(seen, lines)
    return Suggestion(
        seen, base, tuple(lines), unused, tuple(listed), private, refused, place, protect, unreached
    )


def _refused(seen: Observation, place: str) -> tuple[Refused, ...]:
    marked = (
        (use, why_sensitive(use.path, home=seen.home, workspace=seen.workspace, writing=use.written > 0))
        for use in seen.files
        if use.refused
    )
    found = [Refused(shorten(use.path, seen, place), use.refused, why) for use, why in marked if why]
    return tuple(sorted(found, key=lambda each: (-each.count, each.path)))


def _ancestors(path: str) -> Iterable[str]:
    while path not in ("", "/"):
        path = path.rsplit("/", 1)[0]
        yield path or "/"


def _below_any(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(top + "/") for top in tops)


def _has_below(uses: Mapping[str, int], top: str) -> bool:
    return any(path.startswith(top + "/") for path in uses)


def _used_below(files: Iterable[FileUse], top: str, workspace: str) -> bool:
    return any(use.written and _thrown_away(use.path, (top,), workspace) for use in files)


def _thrown_away(path: str, private: Iterable[str], workspace: str) -> bool:
    """Whether a private directory would cover it; a workspace below ``/tmp`` shines through."""
    return _below_any(path, private) and not (workspace and _below_any(path, (workspace,)))


def _uses(files: Iterable[FileUse], want: str) -> tuple[dict[str, int], set[str]]:
    uses: Counter[str] = Counter()
    whole: set[str] = set()
    for use in files:
        if want == "read" and use.read + use.list:
            uses[use.path] += use.read + use.list
            if use.list:
                whole.add(use.path)
        elif want == "write" and use.written:
            uses[use.path] += use.written
            if use.create or use.remove:
                whole.add(use.path.rsplit("/", 1)[0] or "/")
        elif want == "execute" and use.execute:
            uses[use.path] += use.execute
    return dict(uses), whole


def _line(want: str, grant: Collapsed, seen: Observation, place: str) -> Line:
    verb = {"read": "reads", "write": "changes", "execute": "runs"}[want]
    verb = verb if grant.count != 1 else verb.removesuffix("s")
    evidence = f"{grant.count} {verb}" + (f" of {grant.names} names" if grant.names > 1 else "")
    warning = why_sensitive(grant.path, home=seen.home, workspace=seen.workspace, writing=want == "write")
    shown = shorten(grant.path, seen, place)
    return Line(f"filesystem.{want}", shown, grant.path, evidence, grant.count, warning)


def _addresses(seen: Observation, place: str) -> list[Line]:
    lines = []
    for use in seen.addresses:
        if use.operation != "connect":
            continue
        kind, _, rest = use.address.partition(":")
        warning = why_sensitive_address(use.address)
        if kind == "unix" and rest.startswith("/"):
            lines.append(
                Line(
                    "network.unix",
                    shorten(rest, seen, place),
                    use.address,
                    _connections(use.count),
                    use.count,
                    warning,
                )
            )
        elif kind == "tcp" and rest.rsplit(":", 1)[0] in _LOOPBACK:
            port = rest.rsplit(":", 1)[1]
            note = warning or "a service of the host answers there, unless the command itself listens"
            evidence = _connections(use.count)
            if use.refused:
                some = f"{use.refused} of them " if use.count > use.refused else ""
                evidence += f", {some}refused while observing"
                note = warning or "a service of the host listens there"
            lines.append(Line("network.ports", port, use.address, evidence, use.count, note))
    return lines


def _unreached(seen: Observation, lines: Iterable[Line]) -> tuple[Unreached, ...]:
    """What was tried in vain and no line grants."""
    granted = {line.value for line in lines if line.section == "network.ports"}
    found = []
    for use in seen.addresses:
        kind, _, rest = use.address.partition(":")
        host, _, port = rest.rpartition(":")
        if use.operation == "unanswered":
            local = kind == "tcp" and host in _LOOPBACK
            rule = f"network: {{ports: [{port}]}}" if local and port.isdecimal() else None
            if local and port in granted:
                continue
            why = "nobody listened there, inside or on the host; if a server of the host is meant, start it first"
        elif (
            use.refused and use.operation in ("connect", "send") and kind != "unix" and host not in _LOOPBACK
        ):
            rule = _host_rule(kind, host, port)
            why = "refused; a host is best named as the command names it"
        else:
            continue
        found.append(Unreached(use.address, use.count, why, rule))
    return tuple(sorted(found, key=lambda each: (-each.count, each.address)))


def _host_rule(kind: str, host: str, port: str) -> str | None:
    if port == "53":
        return "network: {hosts: [NAME]}"
    plain = kind == "tcp" and port.isdecimal() and _IPV4.fullmatch(host)
    return f"network: {{hosts: [{{host: {host}, ports: [{port}]}}]}}" if plain else None


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"


def _groups(seen: Observation) -> dict[str, int]:
    used: Counter[str] = Counter()
    for use in seen.syscalls:
        group = group_of(use.name)
        if group is not None and group.kind == "grant":
            used[group.name] += use.count
    for name in seen.implied:
        group = group_of(name)
        if group is not None and group.kind == "grant":
            used[group.name] += 0
    return {name: used[name] for name in groups() if name in used}


def shorten(path: str, seen: Observation, place: str) -> str:
    """A path as a person writes it in a policy that lies in ``place``: ``.``, ``./x``, ``~/x`` or absolute."""
    sign, rest = _apart(path, seen, place)
    return sign + bracketed(rest)


def _apart(path: str, seen: Observation, place: str) -> tuple[str, str]:
    """What stands for the directory that a path or pattern begins in, and what follows it."""
    if place and (path == place or path.startswith(place + "/")):
        rest = path[len(place) + 1 :]
        return ("./", rest) if rest else (".", "")
    if seen.home and path.startswith(seen.home + "/"):
        return "~/", path[len(seen.home) + 1 :]
    return "", path
