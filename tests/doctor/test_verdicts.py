"""Hosts that are not here, as facts: each must be told what it lacks and the line that helps."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from capsule.doctor.facts import PROBES, Attempt, Facts, Place
from capsule.doctor.verdicts import Guarantee, State, judge, worst

LAYERS = ("namespaces", "network", "landlock", "seccomp", "supervisor")
REPORT = {
    "exit": {"code": 0, "cause": "exited"},
    "enforced": {"tier": "full", "layers": dict.fromkeys((*LAYERS, "cgroup"), "enforced")},
}
GOOD = Facts(
    system="Linux",
    machine="x86_64",
    release="6.18",
    root=False,
    probes={name: Attempt(True) for name in PROBES} | {"landlock_abi": Attempt(True, value=7)},
    switches={"kernel/apparmor_restrict_unprivileged_userns": "0", "user/max_user_namespaces": "15000"},
    controllers=("cpu", "memory", "pids"),
    run=REPORT,
    clock=(100.0, 90.0),
)


def verdict(facts: Facts, name: str) -> Guarantee:
    return next(guarantee for guarantee in judge(facts) if guarantee.name == name)


def without(probe: str, attempt: Attempt, **more: object) -> Facts:
    return dataclasses.replace(GOOD, probes={**GOOD.probes, probe: attempt}, **more)  # type: ignore[arg-type]


def test_a_good_host_has_everything_and_nothing_to_do() -> None:
    guarantees = judge(GOOD)
    assert worst(guarantees) is State.ENFORCED
    assert not [guarantee for guarantee in guarantees if guarantee.fix]
    assert len({guarantee.name for guarantee in guarantees}) == len(guarantees) == 16


@pytest.mark.parametrize(
    ("switches", "container", "fix"),
    [
        ({"kernel/apparmor_restrict_unprivileged_userns": "1"}, "", "AppArmor profile"),
        ({"kernel/unprivileged_userns_clone": "0"}, "", "kernel.unprivileged_userns_clone=1"),
        ({"user/max_user_namespaces": "0"}, "docker", "user.max_user_namespaces="),
        ({}, "docker", "docker run --security-opt"),
        ({}, "podman", "podman run --security-opt"),
        ({}, "kubernetes", "securityContext"),
        ({}, "", "chroot"),
    ],
)
def test_without_user_namespaces_the_fix_fits_the_cause(
    switches: dict[str, str], container: str, fix: str
) -> None:
    facts = without(
        "namespaces", Attempt(False, "uid_map", errno.EPERM), switches=switches, container=container
    )
    found = verdict(facts, "namespaces")
    assert found.state is State.UNAVAILABLE
    assert "uid_map" in found.why
    assert fix in found.fix


def test_a_kernel_without_them_is_told_apart_from_a_filter() -> None:
    found = verdict(without("namespaces", Attempt(False, "unshare", errno.EINVAL)), "namespaces")
    assert "CONFIG_USER_NS" in found.fix


def test_nested_too_deep_is_said() -> None:
    assert (
        "nested" in verdict(without("namespaces", Attempt(False, "unshare", errno.ENOSPC)), "namespaces").why
    )


@pytest.mark.parametrize(
    ("abi", "state", "lacks"),
    [(7, State.ENFORCED, ""), (4, State.ENFORCED, "device control"), (2, State.PARTIAL, "truncation")],
)
def test_landlock_names_what_its_version_lacks(abi: int, state: State, lacks: str) -> None:
    found = verdict(without("landlock_abi", Attempt(True, value=abi)), "Landlock")
    assert found.state is state
    assert lacks in found.why


def test_landlock_off_and_landlock_filtered_have_different_fixes() -> None:
    off = verdict(without("landlock", Attempt(False, "create_ruleset", errno.EOPNOTSUPP)), "Landlock")
    filtered = without("landlock", Attempt(False, "create_ruleset", errno.EPERM), container="docker")
    assert "lsm=" in off.fix
    assert "docker" in verdict(filtered, "Landlock").fix


@pytest.mark.parametrize(
    ("attempt", "container", "fix"),
    [
        (Attempt(False, "listener", errno.EBUSY), "", "--allow-degraded supervisor"),
        (Attempt(False, "pidfd_getfd", errno.EPERM), "", "ptrace_scope"),
        (Attempt(False, "pidfd_getfd", errno.EPERM), "docker", "SYS_PTRACE"),
        (Attempt(False, "listener", errno.EINVAL), "", "Linux 5.19"),
    ],
)
def test_supervision(attempt: Attempt, container: str, fix: str) -> None:
    found = verdict(without("notify", attempt, container=container), "supervised calls")
    assert found.state is State.UNAVAILABLE
    assert fix in found.fix


def ungrouped(facts: Facts) -> Facts:
    layers = {"layers": dict.fromkeys(LAYERS, "enforced") | {"cgroup": "unavailable"}, "tier": "full"}
    return dataclasses.replace(facts, run=REPORT | {"enforced": layers})


@pytest.mark.parametrize(
    ("controllers", "why"),
    [
        (None, "no cgroup v2"),
        (("hugetlb", "pids"), "lacks the controllers memory:"),
        ((), "lacks the controllers memory and pids:"),
        (("memory", "pids"), "not ours to divide"),
    ],
)
def test_why_there_is_no_control_group(controllers: tuple[str, ...] | None, why: str) -> None:
    found = verdict(ungrouped(dataclasses.replace(GOOD, controllers=controllers)), "memory limit")
    assert found.state is State.PARTIAL
    assert why in found.why
    assert verdict(GOOD, "memory limit").state is State.ENFORCED


def test_limits_fall_back_and_say_so() -> None:
    bare = ungrouped(dataclasses.replace(GOOD, controllers=None))
    assert "systemd-run" in verdict(bare, "memory limit").fix
    assert verdict(bare, "process limit").state is State.ENFORCED
    root = ungrouped(without("process_limit", Attempt(False, "enforcement"), root=True))
    assert verdict(root, "process limit").state is State.PARTIAL
    assert "ordinary user" in verdict(root, "process limit").fix


@pytest.mark.parametrize(
    ("place", "fix"),
    [
        (Place("/h/capsule/log.key", True, 0o644), "chmod 600 /h/capsule/log.key"),
        (Place("/h/capsule", True, 0o755), "chmod 700 /h/capsule"),
        (Place("/h/capsule", True, 0o700, ours=False), "chown"),
    ],
)
def test_a_key_that_others_can_reach(place: Place, fix: str) -> None:
    found = verdict(dataclasses.replace(GOOD, places=(place,)), "log key and state")
    assert found.state is State.UNAVAILABLE
    assert fix in found.fix


def test_a_private_key_and_an_absent_one() -> None:
    private = dataclasses.replace(GOOD, places=(Place("/h/capsule", True, 0o700), Place("/h/k.key", False)))
    assert verdict(private, "log key and state").state is State.ENFORCED


def test_a_run_that_did_not_happen_or_was_degraded() -> None:
    silent = dataclasses.replace(GOOD, run=None, run_error="capsule.yaml:3:5: unknown key")
    assert verdict(silent, "a run under the policy").state is State.UNAVAILABLE
    assert "3:5" in verdict(silent, "a run under the policy").why
    refused = dataclasses.replace(
        GOOD, run={"exit": {"cause": "refused", "code": 125, "reason": "no landlock"}}
    )
    assert "no landlock" in verdict(refused, "a run under the policy").why
    layers = {
        "enforced": {"tier": "confined", "layers": {"namespaces": "unavailable", "cgroup": "unavailable"}}
    }
    degraded = verdict(dataclasses.replace(GOOD, run=REPORT | layers), "a run under the policy")
    assert degraded.state is State.PARTIAL
    assert "namespaces" in degraded.why
    assert "cgroup" not in degraded.why


def test_old_python_clock_set_back_and_terminal() -> None:
    assert verdict(dataclasses.replace(GOOD, python=(3, 9, 2)), "Python").state is State.UNAVAILABLE
    assert verdict(dataclasses.replace(GOOD, clock=(10.0, 500.0)), "clock").state is State.PARTIAL
    assert (
        "kernel refuses"
        in verdict(
            dataclasses.replace(GOOD, switches={"dev/tty/legacy_tiocsti": "0"}), "terminal injection"
        ).why
    )
    unfiltered = without("seccomp", Attempt(False, "filter", errno.EINVAL))
    assert verdict(unfiltered, "terminal injection").state is State.UNAVAILABLE


def test_a_mac_is_told_that_this_is_about_linux() -> None:
    mac = dataclasses.replace(GOOD, system="Darwin", probes={})
    assert verdict(mac, "namespaces").state is State.UNAVAILABLE
    assert "Seatbelt" in verdict(mac, "namespaces").fix
    assert "Seatbelt" in verdict(mac, "Landlock").fix
