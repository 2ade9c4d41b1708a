from __future__ import annotations

import pytest

from capsule.errors import PolicyError
from capsule.policy.model import (
    Condition,
    Edit,
    NameEntry,
    Origin,
    PathEntry,
    ProgramEntry,
    Sections,
    Setting,
    SyscallEntry,
)
from capsule.policy.parser import parse


def sections(text: str) -> Sections:
    return parse(f"version: 1\n{text}".encode(), "p").sections


def refused(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        sections(text)
    return str(caught.value)


def at(line: int, column: int) -> Origin:
    return Origin("p", line, column)


def test_filesystem() -> None:
    found = sections(
        "filesystem:\n"
        "  read: [a, {path: /b, optional: true, reason: 'two\n    lines'}]\n"
        "  write: {replace: [~/c]}\n"
        "  execute: {remove: [/d], add: [/e]}\n"
        "  deny: ['**/*.pem', {path: '~/[ab]', reason: keys}]\n"
        "  protect: [.git/hooks]\n"
        "  private: [/tmp]\n"
        "  hide: ['~']\n"
    ).filesystem
    assert found.read.add == (
        PathEntry("${workspace}/a", at(3, 10)),
        PathEntry("/b", at(3, 20), True, "two lines"),
    )
    assert found.write == Edit((PathEntry("${home}/c", at(5, 21)),), replace=True)
    assert found.execute == Edit((PathEntry("/e", at(6, 33)),), (NameEntry("/d", at(6, 22)),))
    assert [entry.path for entry in found.deny.add] == ["${workspace}/**/*.pem", "${home}/[ab]"]
    assert found.deny.add[1].reason == "keys"
    assert found.protect.add[0].path == "${workspace}/.git/hooks"
    assert found.private.add[0].path == "/tmp"
    assert found.hide.add[0].path == "${home}"


def test_network_process_require_audit() -> None:
    digest = "blake3:" + "ab" * 32
    found = sections(
        "network: {mode: none, ports: [5432, 0x1F90], unix: [/run/x.sock]}\n"
        f"process: {{programs: [/usr/bin/git, {{path: ~/x, digest: '{digest}', reason: pinned}}]}}\n"
        "require: [landlock, seccomp]\n"
        "audit: all\n"
    )
    assert found.network.mode == Setting("none", at(2, 17))
    assert [port.name for port in found.network.ports.add] == ["5432", "8080"]
    assert found.network.unix.add[0].path == "/run/x.sock"
    assert found.process.restricted == Setting(True, at(3, 21))
    assert found.process.programs.add[1] == ProgramEntry("${home}/x", at(3, 43), digest, "pinned")
    assert [entry.name for entry in found.require.add] == ["landlock", "seccomp"]
    assert found.audit == Setting("all", at(5, 8))


def test_programs_any_takes_a_list_back() -> None:
    found = sections("process: {programs: any}").process
    assert found.restricted is not None
    assert (found.restricted.value, found.programs) == (False, Edit(replace=True))
    assert sections("process: {}").process.restricted is None


def test_syscalls() -> None:
    found = sections(
        "syscalls:\n"
        "  groups: [files, system-info]\n"
        "  allow: [ptrace, {name: socket, when: [{arg: 0, op: eq, value: 1}, {arg: 1, op: mask, value: 2, mask: 0xf}]}]\n"  # noqa: E501
        "  deny: [kill, {name: fork, errno: EAGAIN, reason: none}]\n"
    ).syscalls
    assert [entry.name for entry in found.groups.add] == ["files", "system-info"]
    assert found.allow.add[1].when == (Condition(0, "eq", 1), Condition(1, "mask", 2, 15))
    assert found.deny.add == (
        SyscallEntry("kill", at(5, 10)),
        SyscallEntry("fork", at(5, 23), (), "EAGAIN", "none"),
    )


def test_environment() -> None:
    found = sections(
        "env:\n  pass: [PATH, 'LC_*']\n  scrub: ['*TOKEN*']\n  set: {A: b, B: '1', C: null, D: , E: ''}\n"
    ).environment
    assert [entry.name for entry in found.passed.add] == ["PATH", "LC_*"]
    assert {name: setting.value for name, setting in found.set.items()} == {
        "A": "b",
        "B": "1",
        "C": None,
        "D": None,
        "E": "",
    }
    assert found.set["A"].origin == at(5, 9)


def test_the_least_memory_is_taken() -> None:
    assert sections("limits: {memory: 4MiB}").limits["memory"].value == 4 * 2**20


def test_limits() -> None:
    found = sections("limits: {memory: 2GiB, cpu: 60s, processes: 5, wall_time: none, disk: '1B'}").limits
    assert {name: setting.value for name, setting in found.items()} == {
        "memory": 2**31,
        "cpu": 60_000,
        "processes": 5,
        "wall_time": None,
        "disk": 1,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("filesystem: x", "2:13: filesystem is a single value; expected a mapping with read"),
        ("filesystem: {read: {}}", "filesystem.read changes nothing"),
        ("filesystem: {read: {replace: [], add: []}}", "'replace' beside another key"),
        ("filesystem: {read: {append: []}}", "unknown key 'append' in filesystem.read"),
        ("filesystem: {read: {remove: x}}", "filesystem.read.remove is a single value"),
        ("filesystem: {read: {remove: ['..']}}", "'..' segment"),
        ("filesystem: {read: {add: x}}", "filesystem.read is a single value"),
        ("filesystem: {read: [1]}", 'write "1" in quotes'),
        ("filesystem: {read: [no]}", 'write "no" in quotes'),
        ("filesystem: {read: [~]}", 'write "~" in quotes'),
        ("filesystem: {read: [null]}", "is null, which is not text"),
        ("filesystem: {read: [[a]]}", "an entry of filesystem.read is a list"),
        ("filesystem: {read: [{optional: true}]}", "has no 'path'"),
        ("filesystem: {read: [{path: '*'}]}", "a grant covers a whole directory"),
        ("filesystem: {read: [{path: a, optional: yes}]}", "optional is 'yes'; expected true or false"),
        ("filesystem: {read: [{path: a, optional: 'true'}]}", "optional is 'true'"),
        ("filesystem: {read: [{path: a, optional: []}]}", "optional is a list"),
        ("filesystem: {read: [{path: a, reason: []}]}", "reason is a list"),
        ("filesystem: {deny: [{path: a, optional: true}]}", "unknown key 'optional'"),
        ("filesystem: {private: ['/tmp/*']}", "a grant covers a whole directory"),
        ("network: {mode: []}", "network.mode is a list"),
        ("network: {ports: [0]}", "a whole number from 1 to 65535"),
        ("network: {ports: [70000]}", "is 70000"),
        ("network: {ports: ['80']}", "the text '80'; expected a whole number from 1 to 65535; remove the quotes"),
        ("network: {ports: [080]}", "is '080'"),
        ("network: {ports: [077]}", "may mean octal"),
        ("network: {ports: [0o77]}", "may mean octal"),
        ("network: {ports: [1_000]}", "'1_000'"),
        ("network: {ports: [8e3]}", "'8e3'"),
        ("network: {ports: [[]]}", "is a list"),
        ("network: {ports: {remove: [x]}}", "an entry of network.ports.remove is 'x'"),
        ("syscalls: {allow: [Open]}", "'Open' in syscalls.allow"),
        ("syscalls: {allow: [[]]}", "an entry of syscalls.allow is a list"),
        ("syscalls: {allow: [{when: []}]}", "has no 'name'"),
        ("syscalls: {allow: [{name: A}]}", "'A' in syscalls.allow"),
        ("syscalls: {allow: [{name: open, when: []}]}", "'when' has no condition"),
        ("syscalls: {allow: [{name: open, when: [x]}]}", "a condition is a single value"),
        ("syscalls: {allow: [{name: open, when: [{arg: 0, op: eq}]}]}", "a condition has no 'value'"),
        ("syscalls: {allow: [{name: open, when: [{arg: 6, op: eq, value: 1}]}]}", "arg is 6"),
        ("syscalls: {allow: [{name: open, when: [{arg: 0, op: is, value: 1}]}]}", "op is 'is'"),
        ("syscalls: {allow: [{name: open, when: [{arg: 0, op: eq, value: 1, mask: 1}]}]}", "op is 'eq' and mask is given"),  # noqa: E501
        ("syscalls: {allow: [{name: open, when: [{arg: 0, op: mask, value: 1}]}]}", "op is 'mask' and mask is missing"),
        ("syscalls: {allow: [{name: open, when: [{arg: 0, op: mask, value: 3, mask: 1}]}]}", "can never hold"),
        ("syscalls: {allow: [{name: open, errno: EPERM}]}", "an errno belongs to 'deny'"),
        ("syscalls: {deny: [{name: open, when: []}]}", "conditions belong to 'allow'"),
        ("syscalls: {deny: [{name: open, errno: ENOPE}]}", "errno is 'ENOPE'"),
        ("syscalls: {groups: [[]]}", "an entry of syscalls.groups is a list"),
        ("process: {programs: all}", "process.programs is a single value; expected a list"),
        ("process: {programs: ['/usr/bin/*']}", "glob"),
        ("process: {programs: {remove: ['*']}}", "glob"),
        ("process: {programs: [{digest: x}]}", "has no 'path'"),
        ("process: {programs: [{path: /a, digest: sha256:00}]}", "digest is 'sha256:00'"),
        ("process: {programs: [{path: /a, digest: []}]}", "digest is a list"),
        ("env: {pass: [A-B]}", "'A-B' in env.pass"),
        ("env: {pass: [[]]}", "an entry of env.pass is a list"),
        ("env: {set: [A]}", "env.set is not a mapping"),
        ("env: {set: {'A B': x}}", "'A B' in env.set"),
        ("env: {set: {A: 1}}", "env.set.A is 1, which is not text"),
        ("env: {set: {A: yes}}", "env.set.A is yes, which is not text"),
        ("env: {set: {A: []}}", "env.set.A is a list"),
        ("limits: {memory: 2G}", "limits.memory is '2G'; expected a size such as 64KiB, 512MiB or 2GiB, or 'none'; did you mean '2GiB'?"),  # noqa: E501
        ("limits: {memory: 1B}", "limits.memory is 1B, with which no program starts; expected at least 4MiB"),
        ("limits: {memory: 4095KiB}", "expected at least 4MiB"),
        ("limits: {open_files: 1}", "limits.open_files is 1, with which no program starts; expected at least 16"),
        ("limits: {cpu: 60}", "did you mean '60s'?"),
        ("limits: {cpu: [1]}", "limits.cpu is a list"),
        ("limits: {memroy: 1B}", "did you mean 'memory'?"),
        ("require: [selinux]", "is 'selinux'; expected one of cgroup"),
        ("audit: off", "audit is 'off'; expected one of run, writes, all"),
        ("audit:", "audit is nothing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    assert says in refused(text)
