from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings

from capsule.errors import PolicyError
from capsule.policy.merge import resolve, with_tool
from capsule.policy.model import Source
from capsule.policy.presets import NAMES
from capsule.sandbox import syscalls
from capsule.sandbox.compiler import COMPILER, compile_policy, policy_digest
from capsule.sandbox.plan import PlanCondition, PlanGrant, PlanOrigin, PlanPattern, decode_plan, encode_plan
from tests.policy.documents import TOP, DictLoader, documents, resolve_text, to_yaml
from tests.sandbox.plans import plan_of, preset_plan


def refused(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        plan_of(text)
    return str(caught.value)


def test_an_empty_policy_grants_nothing() -> None:
    plan = plan_of("")
    assert plan.filesystem.read == plan.filesystem.write == plan.filesystem.execute == ()
    assert plan.syscalls.allowed() == ()
    assert plan.process.programs is None
    assert plan.environment.passed == ()
    assert (plan.network.mode, plan.network.ports, plan.require, plan.audit) == ("none", (), (), "run")
    assert plan.network.origin == PlanOrigin(TOP, 1, 1)


def test_every_entry_keeps_its_line() -> None:
    plan = plan_of(
        "filesystem:\n  read: [{path: ~/a, optional: true}]\n  deny: ['**/.env']\nnetwork: {mode: none, ports: [80, 80], unix: [/run/s]}"  # noqa: E501
    )
    assert plan.filesystem.read == (PlanGrant("${home}/a", True, PlanOrigin(TOP, 3, 17)),)
    assert plan.filesystem.deny == (PlanPattern("${workspace}/**/.env", PlanOrigin(TOP, 4, 10)),)
    assert plan.network.ports == (80,)
    assert plan.network.unix[0].path == "/run/s"
    assert plan.network.origin == PlanOrigin(TOP, 5, 17)


def test_of_one_path_the_last_line_counts_and_a_required_one_stays_required() -> None:
    plan = plan_of(
        "filesystem:\n  read:\n    - /a\n    - {path: /a, optional: true}\n    - {path: /b, optional: true}\n    - /b\n"
    )
    assert [(grant.path, grant.optional, grant.origin.line) for grant in plan.filesystem.read] == [
        ("/a", False, 4),
        ("/b", False, 7),
    ]


def test_digests_are_over_the_bytes_and_the_names() -> None:
    sources = (Source("/w/a", b"x"), Source("preset:b", b"yz"))
    assert policy_digest(sources) == "blake3:" + blake3(b"/w/a\x001\x00xpreset:b\x002\x00yz").hexdigest()
    assert policy_digest(sources) != policy_digest(sources[::-1])
    plan = plan_of("extends: [strict]")
    assert [source.path for source in plan.policy.sources] == [TOP, "preset:strict"]
    assert plan.policy.sources[0].digest == "blake3:" + blake3(b"version: 1\nextends: [strict]").hexdigest()


def test_groups_bring_their_reason_and_their_conditions() -> None:
    plan = plan_of("syscalls: {groups: [network, io]}")
    sockets = [entry for entry in plan.syscalls.allowed() if entry.name == "socket"]
    assert len(sockets) == 4
    assert {entry.reason for entry in sockets} == {syscalls.groups()["network"].reason}
    assert sockets[0].when == (PlanCondition(0, "eq", 1, None),)
    assert all(entry.origin.line == 2 for entry in plan.syscalls.allowed())
    names = [entry.name for entry in plan.syscalls.allowed()]
    assert names == sorted(names)
    assert {"connect", "read", "ioctl"} <= set(names)
    assert "openat" not in names


def test_no_allowed_ioctl_pushes_input_into_a_terminal() -> None:
    """The kernel reads 32 bits of the command: TIOCSTI with any higher bits set must be refused as well."""
    entries = [
        entry for entry in plan_of("syscalls: {groups: [io]}").syscalls.allowed() if entry.name == "ioctl"
    ]

    def allowed(command: int) -> bool:
        return any(all(_holds(condition, command) for condition in entry.when) for entry in entries)

    for command in (0x5412, 0x541C, 0x541D):
        for high in (0, 1 << 32, 0xFFFFFFFF << 32, 1 << 63):
            assert not allowed(command | high)
    for command in (0x5401, 0x5413, 0x541B, 0x80045430, 0xFFFFFFFF80045430):
        assert allowed(command)


def _holds(condition: PlanCondition, value: int) -> bool:
    return {
        "eq": value == condition.value,
        "ne": value != condition.value,
        "lt": value < condition.value,
        "le": value <= condition.value,
        "gt": value > condition.value,
        "ge": value >= condition.value,
        "mask": value & (condition.mask or 0) == condition.value,
    }[condition.op]


def test_deny_beats_allow_whatever_the_order() -> None:
    plan = plan_of(
        "syscalls: {groups: [processes], allow: [ptrace], deny: [ptrace, {name: fork, errno: EAGAIN, reason: never}]}"
    )
    assert not {"ptrace", "fork"} & {entry.name for entry in plan.syscalls.allowed()}
    denied = {entry.name: (entry.errno, entry.reason) for entry in plan.syscalls.deny}
    assert denied["ptrace"] == ("EPERM", "denied by the policy")
    assert denied["fork"] == ("EAGAIN", "never")


def test_programs_that_fall_back_are_told_enosys() -> None:
    for text in ("", "extends: [workspace]"):
        denied = {entry.name: entry.errno for entry in plan_of(text).syscalls.deny}
        assert {
            denied[name] for name in ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
        } == {"ENOSYS"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("syscalls: {groups: [filse]}", "unknown system call group 'filse'"),
        ("syscalls: {groups: [filse]}", "did you mean 'files'?"),
        ("syscalls: {groups: [mounts]}", "the group 'mounts' cannot be allowed: it changes what paths mean"),
        (
            "syscalls: {allow: [opentt]}",
            "unknown system call 'opentt'; expected the Linux name of a system call",
        ),
        ("syscalls: {allow: [opnat]}", "did you mean 'openat'?"),
        (
            "syscalls: {allow: [io_uring_setup]}",
            "'io_uring_setup' cannot be allowed: it opens and writes files where",
        ),
        ("syscalls: {allow: [unshare]}", "'unshare' cannot be allowed"),
        ("syscalls: {deny: [opnat]}", "unknown system call 'opnat'"),
        ("syscalls: {allow: [x1], deny: [x2]}", f"{TOP}:2:32: unknown system call 'x2'"),
    ],
)
def test_system_calls_are_checked(text: str, says: str) -> None:
    assert says in refused(text)


def test_programs_environment_limits() -> None:
    plan = plan_of(
        "process: {programs: [/usr/bin/git]}\nenv: {pass: [A, A], set: {Z: z, B: b}, scrub: ['*X']}\n"
        "limits: {memory: 5MiB, cpu: none}\nrequire: [seccomp, landlock, seccomp]\naudit: all\nname: web"
    )
    assert plan.process.programs is not None
    assert plan.process.programs[0].path == "/usr/bin/git"
    assert plan.environment.passed == ("A",)
    assert list(plan.environment.set.items()) == [("B", "b"), ("Z", "z")]
    assert plan.environment.scrub == ("*X",)
    assert (plan.limits.memory, plan.limits.cpu, plan.limits.disk) == (5 * 2**20, None, None)
    assert plan.require == ("landlock", "seccomp")
    assert (plan.audit, plan.name) == ("all", "web")
    assert plan_of("process: {programs: []}").process.programs == ()
    assert plan_of("process: {programs: any}").process.programs is None


def test_a_tool_compiles_to_its_own_plan() -> None:
    policy = resolve_text("version: 1\ntools: {fetch: {filesystem: {read: [/f]}}}")
    assert compile_policy(policy).filesystem.read == ()
    assert [grant.path for grant in compile_policy(with_tool(policy, "fetch")).filesystem.read] == ["/f"]


@pytest.mark.parametrize("name", NAMES)
def test_presets_compile_to_plans_that_read_back(name: str) -> None:
    data = encode_plan(preset_plan(name))
    assert data == encode_plan(preset_plan(name))
    assert decode_plan(data) == preset_plan(name)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_compiling_is_deterministic_and_the_plan_reads_back(document: dict[str, object]) -> None:
    def compiled() -> bytes | str:
        try:
            return encode_plan(
                compile_policy(resolve(Source("/w/capsule.yaml", to_yaml(document)), DictLoader()))
            )
        except PolicyError as error:
            return str(error)

    data = compiled()
    assert data == compiled()
    if isinstance(data, bytes):
        assert encode_plan(decode_plan(data)) == data


def test_the_compiler_names_its_version(repository: Path) -> None:
    project = tomllib.loads((repository / "capsule/pyproject.toml").read_text())["project"]
    assert f"{project['name']} {project['version']}" == COMPILER
