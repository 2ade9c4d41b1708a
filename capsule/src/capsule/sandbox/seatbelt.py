r"""`Plan` → a Seatbelt profile (SBPL), the language of macOS's `sandbox-exec`. Text only; untested on a Mac.

In SBPL the last rule that matches decides, so the order is: deny everything, then the grants, then `hide`,
`protect` and `deny`. What it refuses: a path it cannot quote without doubt, so that no path can become a
rule; hosts, and the whole network, which a profile would silently take away.

    compile_seatbelt(plan, Variables("/w", "/Users/u", "/w"))    # '(version 1)\n(deny default)\n…'
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from capsule.errors import PlanError
from capsule.sandbox.access import Variables
from capsule.sandbox.plan import Plan, PlanGrant, PlanPattern

# What every program needs to start at all, whatever the policy says.
_ALWAYS = (
    "(allow process-fork)",
    "(allow signal (target same-sandbox))",
    "(allow sysctl-read)",
    '(allow mach-lookup (global-name "com.apple.system.notification_center"))',
    '(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))',
    "(allow ipc-posix-sem)",
    "(allow ipc-posix-shm)",
    "(allow file-read-metadata)",
)


def compile_seatbelt(plan: Plan, variables: Variables) -> str:
    """The profile, one rule a line.

    Args:
        plan: what to enforce.
        variables: the directories; SBPL knows none of ours.

    Raises:
        PlanError: when a path cannot be quoted safely, or the plan reaches hosts or the whole network.
    """
    _closed(plan)
    fs = plan.filesystem
    lines = ["(version 1)", "(deny default)", *_ALWAYS]
    lines += _depth_first(fs.read, fs.write, fs.execute, plan, variables)
    for port in plan.network.ports:
        lines.append(f'(allow network-outbound (remote tcp "localhost:{port}"))')
    for grant in plan.network.unix:
        lines.append(f"(allow network-outbound (remote unix-socket {_subpath(variables.path(grant.path))}))")
    lines += [_rule("deny", "file-write*", [_pattern(entry, variables)]) for entry in fs.protect]
    for entry in fs.deny:
        lines.append(_rule("deny", "file*", [_pattern(entry, variables)]))
        lines.append(_rule("deny", "process-exec*", [_pattern(entry, variables)]))
    return "\n".join(lines) + "\n"


def _closed(plan: Plan) -> None:
    """Hosts are reached through `capsule-egress`, which no profile starts; the host's network has no rule here."""
    network = plan.network
    if network.mode == "none":
        return
    first = network.egress.hosts[0] if network.egress and network.egress.hosts else network
    what = "the whole network" if network.mode == "open" else "hosts reached by name"
    raise PlanError(
        f"{first.origin.file}:{first.origin.line}: network.mode is '{network.mode}', and {what} cannot be written in "
        "a Seatbelt profile",
        next_step="compile a policy with 'network: mode: none', or run it on Linux",
    )


def _depth_first(
    read: Iterable[PlanGrant],
    write: Iterable[PlanGrant],
    execute: Iterable[PlanGrant],
    plan: Plan,
    variables: Variables,
) -> list[str]:
    """Hide, private and the grants, shallow paths first: then the most specific one is also the last one."""
    rows: list[tuple[int, int, str]] = []

    def add(path: str, rank: int, verdict: str, operations: str) -> None:
        real = variables.path(path)
        depth = real.count("/") if real != "/" else 0
        rows.append((depth, rank, _rule(verdict, operations, [_subpath(real)])))

    for place in plan.filesystem.hide:
        add(place.path, 0, "deny", "file-read-data file-write* process-exec*")
    for place in plan.filesystem.private:
        # There is no private file system on a Mac; the directory itself is granted, as documented. Nothing in it runs.
        add(place.path, 0, "deny", "process-exec* file-map-executable")
        add(place.path, 1, "allow", "file-read* file-write*")
    for grant in read:
        add(grant.path, 2, "deny", "file-write*")
        add(grant.path, 3, "allow", "file-read*")
    for grant in write:
        add(grant.path, 4, "allow", "file-read* file-write*")
    programs = plan.process.programs
    for grant in execute:
        if programs is None:
            add(grant.path, 5, "allow", "process-exec* file-map-executable")
        else:
            add(grant.path, 5, "allow", "file-map-executable")
    for program in programs or ():
        add(program.path, 6, "allow", "process-exec*")
    return [text for _, _, text in sorted(rows, key=lambda row: row[:2])]


def _rule(verdict: str, operations: str, filters: list[str]) -> str:
    return f"({verdict} {operations} {' '.join(filters)})"


def _quote(text: str) -> str:
    """A string of SBPL. Its escapes are not documented, so only the two without doubt are used."""
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in text):
        raise PlanError(
            f"the path {text!r} cannot be written in a Seatbelt profile",
            next_step="rename it, or take it out of the policy",
        )
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _subpath(path: str) -> str:
    return f"(subpath {_quote(path)})"


def _pattern(entry: PlanPattern, variables: Variables) -> str:
    if not any(char in entry.pattern for char in "*?["):
        return _subpath(variables.path(entry.pattern))
    return f"(regex {_quote(pattern_regex(entry.pattern, variables))})"


def pattern_regex(pattern: str, variables: Variables) -> str:
    """A pattern as an anchored extended regular expression that also matches everything beneath."""
    start = next((name for name in ("${workspace}", "${home}", "${cwd}") if pattern.startswith(name)), "")
    # The variable's value is text, not a pattern.
    found = "^" + _literal(variables.path(start).rstrip("/") if start else "")
    segments = pattern.removeprefix(start).split("/")[1:]
    while segments and segments[-1] == "**":
        segments.pop()
    for segment in segments:
        found += "(/[^/]+)*" if segment == "**" else "/" + _segment(segment)
    return found + "(/.*)?$"


def _segment(segment: str) -> str:
    found, at = "", 0
    while at < len(segment):
        char = segment[at]
        at += 1
        if char == "*":
            found += "[^/]*"
        elif char == "?":
            found += "[^/]"
        elif char == "[":
            first = at + (segment[at] == "!")
            end = segment.index("]", first + 1)
            members = segment[first:end]
            if (
                not re.fullmatch(r"[A-Za-z0-9_.,+@%=-]+", members)
                or members.startswith("-")
                or members.endswith("-")
            ):
                raise PlanError(
                    f"the set [{members}] cannot be written in a Seatbelt profile",
                    next_step="list letters and digits",
                )
            found += f"[{'^/' if first > at else ''}{members}]"
            at = end + 1
        else:
            found += _literal(char)
    return found


def _literal(text: str) -> str:
    return re.sub(r"[.*+?(){}|$\[\]^\\]", r"\\\g<0>", text)
