from __future__ import annotations

import pytest

from capsule.policy.presets import NAMES
from capsule.sandbox.access import Variables
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
        (
            "filesystem: {read: [.], deny: ['**/.env']}",
            "filesystem: {read: [.]}",
            Risk.CRITICAL,
            "./**/.env is no longer denied",
        ),
        (
            "filesystem: {write: [.], protect: [.git]}",
            "filesystem: {write: [.]}",
            Risk.CRITICAL,
            "./.git is no longer protected",
        ),
        (
            "filesystem: {read: [/], hide: ['~']}",
            "filesystem: {read: [/]}",
            Risk.HIGH,
            "~ is no longer hidden",
        ),
        (
            "filesystem: {read: [/tmp/x], private: [/tmp]}",
            "filesystem: {read: [/tmp/x]}",
            Risk.HIGH,
            "/tmp is no longer the sandbox's own",
        ),
        ("filesystem: {read: [/opt]}", "filesystem: {read: [/]}", Risk.CRITICAL, "may read /"),
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
        (
            "env: {pass: [MY_KEY], scrub: ['*KEY']}",
            "env: {pass: [MY_KEY]}",
            Risk.HIGH,
            "variables like *KEY are no longer scrubbed",
        ),
        (
            "env: {pass: ['A*'], scrub: ['*KEY']}",
            "env: {pass: ['A*']}",
            Risk.HIGH,
            "variables like *KEY are no longer scrubbed",
        ),
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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("filesystem: {write: [.]}", "filesystem: {write: [., ./out]}"),
        ("filesystem: {read: [/usr]}", "filesystem: {read: [/usr, /usr/lib/x]}"),
        ("filesystem: {deny: [~/.aws, '~/**/.env']}", ""),
        ("filesystem: {read: [./src], deny: [~/.aws]}", "filesystem: {read: [./src]}"),
        ("filesystem: {read: [.], protect: [./.git]}", "filesystem: {read: [.]}"),
        ("filesystem: {write: [/dev/null], protect: ['/**/.git/hooks']}", "filesystem: {write: [/dev/null]}"),
        ("env: {pass: [LANG], scrub: ['*KEY']}", "env: {pass: [LANG]}"),
        ("filesystem: {read: [/opt], private: [/tmp], hide: ['~']}", "filesystem: {read: [/opt]}"),
    ],
)
def test_what_was_granted_or_is_out_of_reach_is_no_difference(old: str, new: str) -> None:
    assert changes(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("deny: [./x/y]", "deny: [./x]", "./x is denied"),
        ("deny: [./.env]", "deny: ['**/.env']", "./**/.env is denied"),
        ("deny: ['./k/*.pem']", "deny: [./k]", "./k is denied"),
        ("protect: [./x]", "deny: [./x]", "./x is denied"),
        ("protect: [./x/y]", "protect: [./x]", "./x is protected"),
        ("protect: ['**/.git/hooks']", "protect: ['**/hooks']", "./**/hooks is protected"),
    ],
)
def test_what_another_line_keeps_is_not_given_away(old: str, new: str, what: str) -> None:
    files = "filesystem: {{read: [.], write: [.], {}}}"
    assert changes(files.format(old), files.format(new)) == [(Risk.NARROWER, what)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("deny: [./x]", "protect: [./x]"),
        ("deny: [./x]", "deny: [./x/y]"),
        ("deny: [./x]", "deny: ['./x*/y']"),
        # A line about repositories does not hold in those that a run makes.
        ("protect: ['**/hooks']", "protect: ['**/.git/hooks']"),
        ("protect: [./.git/hooks]", "protect: ['**/.git/hooks']"),
    ],
)
def test_what_another_line_keeps_in_part_is_given_away(old: str, new: str) -> None:
    files = "filesystem: {{read: [.], write: [.], {}}}"
    assert changes(files.format(old), files.format(new))[0][0] is Risk.CRITICAL


def test_the_workspace_may_be_the_home_directory() -> None:
    old = plan_of("filesystem: {read: [.], deny: [~/.aws]}")
    new = plan_of("filesystem: {read: [.]}")
    assert [change.what for change in compare_plans(old, new)] == ["~/.aws is no longer denied"]
    apart = Variables("/srv/repo", "/home/u", "/srv/repo")
    assert compare_plans(old, new, apart) == ()
    for workspace in ("/home", "/home/u", "/home/u/.aws", "/home/u/.aws/x", "/"):
        at = Variables(workspace, "/home/u", workspace)
        assert len(compare_plans(old, new, at)) == 1, workspace


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


def test_a_directory_of_dev_may_hold_a_repository() -> None:
    old = "filesystem: {write: [/dev/shm], protect: ['/**/.git/hooks']}"
    assert changes(old, "filesystem: {write: [/dev/shm]}") == [
        (Risk.CRITICAL, "/**/.git/hooks is no longer protected")
    ]
    old = "filesystem: {write: [/dev/null], protect: [/dev/null]}"
    assert changes(old, "filesystem: {write: [/dev/null]}") == [
        (Risk.CRITICAL, "/dev/null is no longer protected")
    ]


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
