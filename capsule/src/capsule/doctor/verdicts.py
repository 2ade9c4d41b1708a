"""Facts → guarantees: what this host enforces, why not, and the line that would change it. Pure.

for guarantee in judge(facts):
    print(guarantee.name, guarantee.state, guarantee.why)
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from capsule.doctor.facts import Attempt, Facts


class State(enum.StrEnum):
    """How much of a guarantee this host gives."""

    ENFORCED = "ENFORCED"
    PARTIAL = "PARTIAL"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class Guarantee:
    """One promise, as kept here.

    Attributes:
        name: Stable name.
        state: How much of it.
        why: What was measured.
        fix: What to type or change; "" when nothing is to be done.
    """

    name: str
    state: State
    why: str
    fix: str = ""


# What each version of Landlock added: the kernel's Documentation/userspace-api/landlock.rst.
ABI_ADDS = {
    2: "moving files between directories",
    3: "truncation",
    4: "TCP ports",
    5: "device control (ioctl)",
    6: "abstract sockets and signals",
    7: "denials on the audit stream",
}
NEEDED_ABI = 3

DOCKER_FLAGS = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined …"
UNTRIED = Attempt(False, "not tried on this system")


def judge(facts: Facts) -> list[Guarantee]:
    """Every guarantee, in the order in which a person asks for them."""
    return [
        _namespaces(facts),
        _simple(
            facts,
            "mount view",
            "mounts",
            "read-only view, private /tmp and /proc were made",
            _userns_fix(facts),
        ),
        _simple(
            facts,
            "network isolation",
            "network",
            "an empty network was made, only its loopback works",
            _userns_fix(facts),
        ),
        _landlock(facts),
        _simple(facts, "syscall filter", "seccomp", "a filter refused a call", _seccomp_fix(facts)),
        _notify(facts),
        _simple(
            facts, "capability drop", "capabilities", "all capabilities and the way back were given up", ""
        ),
        _simple(
            facts,
            "whole-tree kill",
            "tree_kill",
            "a daemonised grandchild died with its namespace",
            _userns_fix(facts),
        ),
        _memory(facts),
        _processes(facts),
        _cpu(),
        _terminal(facts),
        _private_key(facts),
        _python(facts),
        _run(facts),
        _clock(facts),
    ]


def worst(guarantees: list[Guarantee]) -> State:
    """The lowest state among them."""
    order = [State.UNAVAILABLE, State.PARTIAL, State.ENFORCED]
    return min((guarantee.state for guarantee in guarantees), key=order.index)


def _tried(facts: Facts, name: str) -> Attempt:
    return facts.probes.get(name, UNTRIED)


def _reason(attempt: Attempt) -> str:
    if not attempt.errno:
        return f"refused at {attempt.at}" if attempt.at else "refused"
    return f"{attempt.at}: {os.strerror(attempt.errno)}"


def _simple(facts: Facts, name: str, probe: str, good: str, fix: str) -> Guarantee:
    attempt = _tried(facts, probe)
    if attempt.ok:
        return Guarantee(name, State.ENFORCED, good)
    return Guarantee(name, State.UNAVAILABLE, _reason(attempt), fix)


def _userns_fix(facts: Facts) -> str:
    switches = facts.switches
    if facts.system != "Linux":
        return "Linux only; on macOS the Seatbelt profile takes this place"
    if switches.get("user/max_user_namespaces") == "0":
        return "sudo sysctl -w user.max_user_namespaces=15000"
    if switches.get("kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if switches.get("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "give capsule an AppArmor profile that may use userns: docs/concepts/apparmor.md, "
            "or for all programs: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if facts.container in {"docker", "podman"}:
        return DOCKER_FLAGS.replace("docker", facts.container, 1)
    if facts.container:
        return "the pod's securityContext: seccompProfile Unconfined, procMount Unmasked"
    if _tried(facts, "namespaces").errno == errno.EPERM:
        return "run it outside a chroot, or lift the filter that forbids them here (docs/docker.md)"
    return "build or boot a kernel with CONFIG_USER_NS, CONFIG_PID_NS and CONFIG_NET_NS"


def _seccomp_fix(facts: Facts) -> str:
    if facts.system != "Linux":
        return "Linux only; on macOS the Seatbelt profile takes this place"
    return "a kernel with CONFIG_SECCOMP_FILTER (every distribution's has it)"


def _namespaces(facts: Facts) -> Guarantee:
    attempt = _tried(facts, "namespaces")
    if attempt.ok:
        return Guarantee("namespaces", State.ENFORCED, "user, mount, PID, IPC and UTS namespaces were made")
    why = _reason(attempt)
    if attempt.errno == errno.ENOSPC:
        why += " (nested too deep, or a limit of zero)"
    return Guarantee("namespaces", State.UNAVAILABLE, why, _userns_fix(facts))


def _landlock(facts: Facts) -> Guarantee:
    attempt, abi = _tried(facts, "landlock"), _tried(facts, "landlock_abi").value
    if not attempt.ok:
        fix = (
            "add landlock to the kernel's lsm= boot parameter (CONFIG_SECURITY_LANDLOCK, Linux 5.13 or later)"
        )
        if attempt.errno == errno.EPERM and facts.container:
            fix = DOCKER_FLAGS + " (its seccomp profile refuses landlock_*)"
        if facts.system != "Linux":
            fix = _seccomp_fix(facts)
        return Guarantee("Landlock", State.UNAVAILABLE, _reason(attempt), fix)
    lacks = [text for version, text in ABI_ADDS.items() if version > abi]
    why = f"ABI {abi} refused a read" + (f"; lacks: {', '.join(lacks)}" if lacks else "")
    if abi < NEEDED_ABI:
        return Guarantee("Landlock", State.PARTIAL, why, "Linux 6.2 or later")
    return Guarantee("Landlock", State.ENFORCED, why)


def _notify(facts: Facts) -> Guarantee:
    attempt, name = _tried(facts, "notify"), "supervised calls"
    if attempt.ok:
        return Guarantee(name, State.ENFORCED, "a call was held, answered and given a descriptor")
    if attempt.errno == errno.EBUSY:
        return Guarantee(
            name,
            State.UNAVAILABLE,
            "another supervisor holds the listener: this is a sandbox inside one",
            "run the outer command without supervision, or allow it: --allow-degraded supervisor",
        )
    if attempt.at == "pidfd_getfd":
        fix = "sudo sysctl -w kernel.yama.ptrace_scope=1"
        if facts.container:
            fix = f"{facts.container} run --cap-add SYS_PTRACE …"
        return Guarantee(name, State.UNAVAILABLE, _reason(attempt), fix)
    return Guarantee(name, State.UNAVAILABLE, _reason(attempt), "Linux 5.19 or later: " + _seccomp_fix(facts))


def _grouped(facts: Facts) -> bool:
    """Whether the run had a control group of its own: the launcher's word, not a guess of ours."""
    return _table(_table(facts.run or {}, "enforced"), "layers").get("cgroup") == "enforced"


def _ungrouped(facts: Facts) -> str:
    if facts.controllers is None:
        return "no cgroup v2"
    lacking = [name for name in ("memory", "pids") if name not in facts.controllers]
    if lacking:
        return f"the cgroup we are in lacks the controllers {' and '.join(lacking)}"
    return "the cgroup we are in is not ours to divide"


DELEGATE = "systemd-run --user --scope -p Delegate=yes capsule run … (a cgroup of your own)"


def _memory(facts: Facts) -> Guarantee:
    if _grouped(facts):
        return Guarantee("memory limit", State.ENFORCED, "the run had a cgroup of its own")
    return Guarantee(
        "memory limit",
        State.PARTIAL,
        f"{_ungrouped(facts)}: address-space limits, and the tree's memory is sampled",
        DELEGATE,
    )


def _processes(facts: Facts) -> Guarantee:
    if _grouped(facts):
        return Guarantee("process limit", State.ENFORCED, "the run had a cgroup of its own")
    if _tried(facts, "process_limit").ok:
        return Guarantee("process limit", State.ENFORCED, "RLIMIT_NPROC counts the run's own user namespace")
    why = "the kernel does not count root's processes; the tree is counted and ended instead"
    if not facts.root:
        why = _reason(_tried(facts, "process_limit"))
    fix = "run as an ordinary user" if facts.root else DELEGATE
    return Guarantee("process limit", State.PARTIAL, why, fix)


def _cpu() -> Guarantee:
    return Guarantee(
        "processor and wall time",
        State.ENFORCED,
        "the tree's time is summed by the supervisor, and the wall clock kept; no share can be set",
    )


def _terminal(facts: Facts) -> Guarantee:
    switch = facts.switches.get("dev/tty/legacy_tiocsti")
    if not _tried(facts, "seccomp").ok:
        return Guarantee(
            "terminal injection", State.UNAVAILABLE, "no filter to refuse TIOCSTI with", _seccomp_fix(facts)
        )
    also = "; the kernel refuses it too" if switch == "0" else ""
    return Guarantee("terminal injection", State.ENFORCED, "a new session, and TIOCSTI is filtered" + also)


def _private_key(facts: Facts) -> Guarantee:
    name = "log key and state"
    if not any(place.exists for place in facts.places):
        return Guarantee(name, State.ENFORCED, "will be made, private to you, at the first run")
    for place in facts.places:
        if place.exists and not place.ours:
            return Guarantee(
                name,
                State.UNAVAILABLE,
                f"{place.path} belongs to someone else",
                f"sudo chown $USER {place.path}",
            )
        if place.exists and place.mode & 0o077:
            mode = "600" if place.path.endswith(".key") else "700"
            why = f"{place.path} has mode {place.mode:o}: others can reach it"
            return Guarantee(name, State.UNAVAILABLE, why, f"chmod {mode} {place.path}")
    return Guarantee(name, State.ENFORCED, "private to you, outside every sandbox")


def _python(facts: Facts) -> Guarantee:
    version = ".".join(map(str, facts.python))
    if facts.python < (3, 11, 0):
        return Guarantee(
            "Python", State.UNAVAILABLE, f"{version} compiles the policies", "install Python 3.11 or later"
        )
    return Guarantee("Python", State.ENFORCED, f"{version} compiles policies; a cached plan needs none")


def _run(facts: Facts) -> Guarantee:
    name = "a run under the policy"
    if facts.run is None:
        return Guarantee(
            name, State.UNAVAILABLE, facts.run_error or "capsule run did not start", "see the message"
        )
    end, enforced = _table(facts.run, "exit"), _table(facts.run, "enforced")
    layers = _table(enforced, "layers")
    if end.get("cause") != "exited" or end.get("code") != 0:
        why = f"{end.get('cause')}: {end.get('reason') or end.get('code')}"
        return Guarantee(
            name, State.UNAVAILABLE, why, "allow it by name where you accept it: --allow-degraded LAYER"
        )
    missing = sorted(layer for layer, state in layers.items() if state != "enforced" and layer != "cgroup")
    if missing or enforced.get("tier") != "full":
        why = f"tier {enforced.get('tier')}; not enforced: {', '.join(missing) or 'nothing named'}"
        return Guarantee(name, State.PARTIAL, why, "see the guarantees above")
    return Guarantee(name, State.ENFORCED, "compiled, started, every layer enforced")


def _table(facts: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = facts.get(key, {})
    return value if isinstance(value, Mapping) else {}


def _clock(facts: Facts) -> Guarantee:
    now, newest = facts.clock
    if now < newest - 1:
        why = f"the clock is {newest - now:.0f} s behind the newest signed head: the log will say so"
        return Guarantee("clock", State.PARTIAL, why, "set the clock (timedatectl set-ntp true)")
    return Guarantee("clock", State.ENFORCED, "not behind anything that was signed")
