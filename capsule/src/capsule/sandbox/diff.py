"""Two plans → what changed, the most dangerous first.

Widening comes before narrowing. Among widenings: ways out of the sandbox (protection removed, sensitive places,
sockets, the host's network, secrets that go further), then new power (writing, executing, sending, calls, variables),
then more of the same (reading, limits).

    compare_plans(old, new)[0].risk        # 'critical'
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from capsule.policy.glob import Pattern, matches_name, split
from capsule.policy.model import AUDIT_LEVELS, LIMIT_KINDS
from capsule.policy.paths import shown
from capsule.policy.quantities import shown_quantity
from capsule.sandbox import syscalls
from capsule.sandbox.access import Variables
from capsule.sandbox.changes import Change, Risk
from capsule.sandbox.diff_hosts import compare_hosts
from capsule.sandbox.plan import Plan, PlanGrant, PlanPattern, PlanPlace, PlanSyscallAllow

APART = Variables("/${workspace}", "/${home}", "/${cwd}")
"""Where the directories lie apart from each other and from everything else."""

# Where keys and tokens are kept, and from where the host runs things.
_SENSITIVE = tuple(
    Pattern.parse(path)
    for path in (
        "/${home}/.ssh", "/${home}/.gnupg", "/${home}/.aws", "/${home}/.azure", "/${home}/.kube",
        "/${home}/.docker", "/${home}/.netrc", "/${home}/.git-credentials", "/${home}/.npmrc",
        "/${home}/.pypirc", "/${home}/.config/gh", "/${home}/.config/gcloud", "/${home}/.mozilla",
        "/${home}/.password-store", "/${home}/.local/share/keyrings", "/${home}/.bashrc",
        "/${home}/.zshrc", "/${home}/.profile", "/${home}/.config/autostart",
        "/${home}/.config/systemd", "/etc/shadow", "/etc/sudoers", "/etc/ssh", "/etc/cron*",
        "/etc/systemd", "/run", "/var/run", "/boot", "/dev/mem", "/dev/sd*", "/dev/nvme*",
        "/dev/kvm", "/sys", "/proc/sys", "/proc/sysrq-trigger", "/**/.git/hooks", "/**/.git/config",
        "/**/docker.sock",
    )
)  # fmt: skip
_WIDE = {"", "/", "/${home}", "/home", "/root", "/etc", "/var", "/usr"}
_DIRECTORIES_OF_DEV = {b"shm", b"mqueue", b"hugepages"}
"""What may hold files; the rest of `/dev` is devices, and directories of devices."""
_LEVEL = {"read": Risk.LOW, "write": Risk.HIGH, "execute": Risk.MEDIUM}


def compare_plans(old: Plan, new: Plan, where: Variables = APART) -> tuple[Change, ...]:
    """All differences that matter, by falling risk and then as found.

    Args:
        old: what held.
        new: what would hold.
        where: the directories that paths begin in. Without them, any of them could be the other.
    """
    changes = [
        *_filesystem(old, new, where),
        *_network(old, new),
        *compare_hosts(old, new),
        *_syscalls(old, new),
        *_programs(old, new),
        *_environment(old, new),
        *_limits(old, new),
        *_assurance(old, new),
    ]
    return tuple(sorted(changes, key=lambda change: -change.risk))


def _absolute(path: str) -> str:
    # Variables become segments, so that one matcher serves for all.
    return APART.path(path)


def _sensitive(path: str) -> bool:
    """Whether a grant reaches a sensitive place: it lies in one, has one beneath, or is very wide."""
    name = _absolute(path)
    beneath = tuple(split(name))
    return name in _WIDE or any(
        pattern.covers(name) or (bool(beneath) and pattern.anchor[: len(beneath)] == beneath)
        for pattern in _SENSITIVE
    )


def _beneath(path: str, known: str, where: Variables) -> bool:
    """Whether a grant of `known` is one of `path` too."""
    above = split(where.path(known))
    return split(where.path(path))[: len(above)] == above


def _device(path: str) -> bool:
    return path.startswith("/dev/") and split(path)[1] not in _DIRECTORIES_OF_DEV


def _reached(grants: Iterable[PlanGrant], pattern: str, where: Variables) -> bool:
    """Whether a grant may cover something that a pattern names: what none does was out of reach with its line too."""
    anchor = where.pattern(pattern).anchor
    for grant in grants:
        if not anchor and _device(grant.path):
            continue  # `/**/x` names nothing beneath a device
        granted = split(where.path(grant.path))
        shorter = min(len(granted), len(anchor))
        if tuple(granted[:shorter]) == anchor[:shorter]:
            return True
        if len(granted) == 1 and granted[0].startswith(b"${") and anchor[0].startswith(b"${"):
            return True  # the workspace may be the home directory
    return False


def _filesystem(old: Plan, new: Plan, where: Variables) -> Iterator[Change]:
    yield from _grants(old, new, where)
    yield from _taken_away(old, new, where)
    yield from _covered(old, new, where)


def _grants(old: Plan, new: Plan, where: Variables) -> Iterator[Change]:
    for name, level in _LEVEL.items():
        before: dict[str, PlanGrant] = {grant.path: grant for grant in getattr(old.filesystem, name)}
        after: dict[str, PlanGrant] = {grant.path: grant for grant in getattr(new.filesystem, name)}
        for path in sorted(after.keys() - before.keys()):
            if any(_beneath(path, known, where) for known in before):
                continue
            risk = Risk.CRITICAL if _sensitive(path) else level
            # What may be written may be read.
            shows = name == "read" and not any(
                _beneath(path, grant.path, where) for grant in old.filesystem.write
            )
            yield Change(risk, f"may {name} {shown(path)}", after[path].origin, shows=shows)
        for path in sorted(before.keys() - after.keys()):
            if not any(_beneath(path, known, where) for known in after):
                yield Change(Risk.NARROWER, f"may no longer {name} {shown(path)}", before[path].origin)


def _granted(plan: Plan) -> tuple[PlanGrant, ...]:
    return (*plan.filesystem.read, *plan.filesystem.write, *plan.filesystem.execute)


def _taken_away(old: Plan, new: Plan, where: Variables) -> Iterator[Change]:
    for name, gone, come in (
        ("deny", "is no longer denied", "is denied"),
        ("protect", "is no longer protected", "is protected"),
    ):
        rules: dict[str, PlanPattern] = {rule.pattern: rule for rule in getattr(old.filesystem, name)}
        kept: dict[str, PlanPattern] = {rule.pattern: rule for rule in getattr(new.filesystem, name)}
        near = new.filesystem.write if name == "protect" else _granted(new)
        for pattern in sorted(rules.keys() - kept.keys()):
            if _reached(near, pattern, where) and not _still_kept(new, name, where.pattern(pattern), where):
                yield Change(Risk.CRITICAL, f"{shown(pattern)} {gone}", rules[pattern].origin)
        for pattern in sorted(kept.keys() - rules.keys()):
            yield Change(Risk.NARROWER, f"{shown(pattern)} {come}", kept[pattern].origin)


def _still_kept(new: Plan, name: str, gone: Pattern, where: Variables) -> bool:
    """Whether another line keeps from the command what a line kept: what is denied is protected, too."""
    if any(where.pattern(rule.pattern).includes(gone) for rule in new.filesystem.deny):
        return True
    protect = [where.pattern(rule.pattern) for rule in new.filesystem.protect] if name == "protect" else []
    # A line about repositories does not hold in those that a run makes.
    return any(
        line.includes(gone) for line in protect if gone.in_any_repository or not line.in_any_repository
    )


def _covered(old: Plan, new: Plan, where: Variables) -> Iterator[Change]:
    for name in ("hide", "private"):
        places: dict[str, PlanPlace] = {place.path: place for place in getattr(old.filesystem, name)}
        stay: dict[str, PlanPlace] = {place.path: place for place in getattr(new.filesystem, name)}
        for path in sorted(places.keys() - stay.keys()):
            what = "is no longer hidden" if name == "hide" else "is no longer the sandbox's own"
            if _reached(_granted(new), path, where):
                yield Change(Risk.HIGH, f"{shown(path)} {what}", places[path].origin)
        for path in sorted(stay.keys() - places.keys()):
            what = "is hidden" if name == "hide" else "is the sandbox's own"
            yield Change(Risk.NARROWER, f"{shown(path)} {what}", stay[path].origin)


def _network(old: Plan, new: Plan) -> Iterator[Change]:
    for port in sorted(set(new.network.ports) - set(old.network.ports)):
        yield Change(Risk.HIGH, f"may reach port {port} of the host's loopback", new.network.origin)
    for port in sorted(set(old.network.ports) - set(new.network.ports)):
        yield Change(
            Risk.NARROWER, f"may no longer reach port {port} of the host's loopback", old.network.origin
        )
    before = {grant.path: grant for grant in old.network.unix}
    after = {grant.path: grant for grant in new.network.unix}
    for path in sorted(after.keys() - before.keys()):
        yield Change(Risk.CRITICAL, f"may talk to the host's service at {shown(path)}", after[path].origin)
    for path in sorted(before.keys() - after.keys()):
        yield Change(Risk.NARROWER, f"may no longer talk to {shown(path)}", before[path].origin)


def _conditions(plan: Plan) -> dict[str, tuple[frozenset[tuple[object, ...]], PlanSyscallAllow]]:
    found: dict[str, tuple[frozenset[tuple[object, ...]], PlanSyscallAllow]] = {}
    for entry in plan.syscalls.allowed():
        known, _ = found.get(entry.name, (frozenset[tuple[object, ...]](), entry))
        found[entry.name] = (known | {tuple((c.arg, c.op, c.value, c.mask) for c in entry.when)}, entry)
    return found


def _syscalls(old: Plan, new: Plan) -> Iterator[Change]:
    before, after = _conditions(old), _conditions(new)
    for name in sorted(after.keys() - before.keys()):
        group = syscalls.group_of(name)
        risk = Risk.CRITICAL if group is not None and group.name in {"debug", "rare"} else Risk.MEDIUM
        yield Change(
            risk, f"may call {name} (group {group.name if group else 'unknown'})", after[name][1].origin
        )
    for name in sorted(before.keys() - after.keys()):
        yield Change(Risk.NARROWER, f"may no longer call {name}", before[name][1].origin)
    for name in sorted(before.keys() & after.keys()):
        was, now = before[name][0], after[name][0]
        if now - was and () not in was:
            yield Change(Risk.HIGH, f"may call {name} with more arguments", after[name][1].origin)
        elif was - now and () not in now:
            yield Change(Risk.NARROWER, f"may call {name} with fewer arguments", after[name][1].origin)


def _programs(old: Plan, new: Plan) -> Iterator[Change]:
    before, after = old.process.programs, new.process.programs
    if before is not None and after is None:
        yield Change(Risk.HIGH, "any executable may run; before, only those listed")
    elif before is None and after is not None:
        yield Change(Risk.NARROWER, f"only {len(after)} listed programs may run")
    elif before is not None and after is not None:
        was = {program.path: program for program in before}
        now = {program.path: program for program in after}
        for path in sorted(now.keys() - was.keys()):
            yield Change(Risk.MEDIUM, f"may run {shown(path)}", now[path].origin)
        for path in sorted(was.keys() - now.keys()):
            yield Change(Risk.NARROWER, f"may no longer run {shown(path)}", was[path].origin)
        for path in sorted(was.keys() & now.keys()):
            if was[path].digest is not None and now[path].digest is None:
                yield Change(Risk.HIGH, f"{shown(path)} may have any content", now[path].origin)
            elif was[path].digest != now[path].digest:
                yield Change(Risk.MEDIUM, f"{shown(path)} has another digest", now[path].origin)


def _is_glob(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _environment(old: Plan, new: Plan) -> Iterator[Change]:
    was, now = old.environment, new.environment
    # What is not passed needs no scrubbing.
    globs = any(_is_glob(name) for name in now.passed)
    for pattern in sorted(set(was.scrub) - set(now.scrub)):
        if globs or any(matches_name(pattern, name) for name in now.passed):
            yield Change(Risk.HIGH, f"variables like {pattern} are no longer scrubbed")
    for pattern in sorted(set(now.scrub) - set(was.scrub)):
        yield Change(Risk.NARROWER, f"variables like {pattern} are scrubbed")
    for pattern in sorted(set(now.passed) - set(was.passed)):
        secret = any(
            matches_name(pattern, name) for name in ("API_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY")
        )
        yield Change(Risk.HIGH if secret else Risk.LOW, f"variables like {pattern} are passed")
    for pattern in sorted(set(was.passed) - set(now.passed)):
        yield Change(Risk.NARROWER, f"variables like {pattern} are no longer passed")
    for name in sorted(now.set.keys() | was.set.keys()):
        if was.set.get(name) != now.set.get(name):
            loads_code = name.startswith("LD_") or name in {"PATH", "PYTHONPATH", "NODE_OPTIONS", "BASH_ENV"}
            what = f"{name} is set to {now.set[name]!r}" if name in now.set else f"{name} is no longer set"
            yield Change(Risk.MEDIUM if loads_code else Risk.LOW, what)


def _limits(old: Plan, new: Plan) -> Iterator[Change]:
    for name, kind in LIMIT_KINDS.items():
        was, now = getattr(old.limits, name), getattr(new.limits, name)
        if was == now:
            continue
        wider = now is None or (was is not None and now > was)
        risk = Risk.NARROWER if not wider else Risk.MEDIUM if now is None else Risk.LOW
        yield Change(risk, f"{name}: {shown_quantity(was, kind)} → {shown_quantity(now, kind)}")


def _assurance(old: Plan, new: Plan) -> Iterator[Change]:
    for layer in sorted(set(old.require) - set(new.require)):
        yield Change(Risk.CRITICAL, f"the layer {layer} is no longer required")
    for layer in sorted(set(new.require) - set(old.require)):
        yield Change(Risk.NARROWER, f"the layer {layer} is required")
    was, now = AUDIT_LEVELS.index(old.audit), AUDIT_LEVELS.index(new.audit)
    if now < was:
        yield Change(Risk.HIGH, f"less is recorded: audit {old.audit} → {new.audit}")
    elif now > was:
        yield Change(Risk.NARROWER, f"more is recorded: audit {old.audit} → {new.audit}")
