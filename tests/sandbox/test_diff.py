from __future__ import annotations

import pytest

from capsule.policy.presets import NAMES
from capsule.sandbox.changes import Risk
from capsule.sandbox.diff import compare_plans
from tests.sandbox.plans import plan_of, preset_plan


def changes(old: str, new: str) -> list[tuple[Risk, str]]:
    return [(change.risk, change.what) for change in compare_plans(plan_of(old), plan_of(new))]


@pytest.mark.parametrize(
    ("old", "new", "risk", "what"),
    [
        ("", "filesystem: {read: [/opt/x]}", Risk.LOW, "may read /opt/x"),
        ("", "filesystem: {execute: [/opt/x]}", Risk.MEDIUM, "may execute /opt/x"),
        ("", "filesystem: {write: [./out]}", Risk.HIGH, "may write ./out"),
        ("", "filesystem: {read: [~/.ssh/id]}", Risk.CRITICAL, "may read ~/.ssh/id"),
        ("", "filesystem: {read: [~/.aws]}", Risk.CRITICAL, "may read ~/.aws"),
        ("", "filesystem: {read: ['~']}", Risk.CRITICAL, "may read ~"),
        ("", "filesystem: {read: [~/.config]}", Risk.CRITICAL, "may read ~/.config"),
        ("", "filesystem: {read: [/]}", Risk.CRITICAL, "may read /"),
        ("", "filesystem: {write: [/etc]}", Risk.CRITICAL, "may write /etc"),
        ("", "filesystem: {write: [.git/hooks]}", Risk.CRITICAL, "may write ./.git/hooks"),
        ("", "filesystem: {read: [/run/user]}", Risk.CRITICAL, "may read /run/user"),
        ("", "filesystem: {write: [/dev/sda]}", Risk.CRITICAL, "may write /dev/sda"),
        ("filesystem: {deny: ['**/.env']}", "", Risk.CRITICAL, "./**/.env is no longer denied"),
        ("filesystem: {protect: [.git]}", "", Risk.CRITICAL, "./.git is no longer protected"),
        ("filesystem: {hide: ['~']}", "", Risk.HIGH, "~ is no longer hidden"),
        ("filesystem: {private: [/tmp]}", "", Risk.HIGH, "/tmp is no longer the sandbox's own"),
        ("", "network: {ports: [80]}", Risk.HIGH, "may reach port 80 of the host's loopback"),
        ("", "network: {unix: [/run/s]}", Risk.CRITICAL, "may talk to the host's service at /run/s"),
        ("", "syscalls: {allow: [ptrace]}", Risk.CRITICAL, "may call ptrace (group debug)"),
        ("", "syscalls: {allow: [openat]}", Risk.MEDIUM, "may call openat (group files)"),
        (
            "syscalls: {allow: [{name: kill, when: [{arg: 1, op: eq, value: 9}]}]}",
            "syscalls: {allow: [kill]}",
            Risk.HIGH,
            "may call kill with more arguments",
        ),
        ("process: {programs: [/a]}", "", Risk.HIGH, "any executable may run; before, only those listed"),
        ("process: {programs: [/a]}", "process: {programs: [/a, /b]}", Risk.MEDIUM, "may run /b"),
        ("env: {scrub: ['*KEY']}", "", Risk.HIGH, "variables like *KEY are no longer scrubbed"),
        ("", "env: {pass: ['*']}", Risk.HIGH, "variables like * are passed"),
        ("", "env: {pass: [LANG]}", Risk.LOW, "variables like LANG are passed"),
        ("", "env: {set: {A: b}}", Risk.LOW, "A is set to 'b'"),
        ("", "env: {set: {LD_PRELOAD: /x}}", Risk.MEDIUM, "LD_PRELOAD is set to '/x'"),
        ("limits: {memory: 1GiB}", "limits: {memory: 2GiB}", Risk.LOW, "memory: 1GiB → 2GiB"),
        ("limits: {cpu: 60s}", "", Risk.MEDIUM, "cpu: 1m → none"),
        ("require: [seccomp]", "", Risk.CRITICAL, "the layer seccomp is no longer required"),
        ("audit: all", "audit: run", Risk.HIGH, "less is recorded: audit all → run"),
    ],
)
def test_widening_is_ranked_and_its_reverse_is_narrower(old: str, new: str, risk: Risk, what: str) -> None:
    assert changes(old, new) == [(risk, what)]
    back = changes(new, old)
    assert len(back) == 1
    if "is set" not in what and "env: {set" not in new:
        assert back[0][0] is Risk.NARROWER


def test_digests_of_programs() -> None:
    one, two = "blake3:" + "0" * 64, "blake3:" + "1" * 64
    pinned = f"process: {{programs: [{{path: /a, digest: '{one}'}}]}}"
    other = f"process: {{programs: [{{path: /a, digest: '{two}'}}]}}"
    assert changes(pinned, "process: {programs: [/a]}") == [(Risk.HIGH, "/a may have any content")]
    assert changes(pinned, other) == [(Risk.MEDIUM, "/a has another digest")]
    assert changes(pinned, pinned) == []


def test_a_variable_that_is_no_longer_set() -> None:
    assert changes("env: {set: {A: b}}", "") == [(Risk.LOW, "A is no longer set")]


def test_the_most_dangerous_comes_first_with_its_line() -> None:
    new = plan_of(
        "filesystem:\n  read: [/opt]\n  write: [./x]\nlimits: {disk: 1GiB}\nnetwork: {unix: [/run/s]}"
    )
    found = compare_plans(plan_of("limits: {disk: 2GiB}"), new)
    assert [change.risk for change in found] == sorted((change.risk for change in found), reverse=True)
    assert found[0].what == "may talk to the host's service at /run/s"
    assert found[0].origin is not None
    assert found[0].origin.line == 6
    assert found[-1].risk is Risk.NARROWER


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_does_not_differ_from_itself(name: str) -> None:
    assert compare_plans(preset_plan(name), preset_plan(name)) == ()


def test_the_presets_widen_as_their_names_say() -> None:
    wider = [
        change.what
        for change in compare_plans(preset_plan("readonly"), preset_plan("workspace"))
        if change.risk
    ]
    assert "may write ." in wider
    assert not [
        c for c in compare_plans(preset_plan("workspace"), preset_plan("git")) if c.risk >= Risk.MEDIUM
    ]
