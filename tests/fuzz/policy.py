"""The policy parser, merge and compiler as a target: bytes → a plan, or `PolicyError`, and nothing else.

Refuses also errors without a place in a source, and plans that are not what they were after writing and reading.

    fuzz(POLICY, seed=1, inputs=1000, seconds=10)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from capsule.errors import PolicyError
from capsule.policy.merge import resolve, with_tool
from capsule.policy.model import CONDITION_OPERATORS, LAYERS, Source
from capsule.policy.parser import EXAMPLE_KINDS, TOP_KEYS
from capsule.policy.presets import NAMES, load_preset
from capsule.policy.sections import ERRNOS
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import decode_plan, encode_plan
from tests.fuzz.engine import Target
from tests.policy.documents import TOP, DictLoader

FILES = {
    "./a.yaml": "version: 1\nextends: [./b.yaml]\nfilesystem: {read: [/a], deny: ['**/.env']}\n",
    "./b.yaml": "version: 1\nnetwork: {mode: hosts, hosts: [a.example]}\nenv: {pass: [PATH], set: {A: b}}\n",
    "./circle.yaml": "version: 1\nextends: [./circle.yaml]\n",
}
SEEDS = (
    "version: 1\nname: x\nextends: [./a.yaml]\naudit: all\nrequire: [landlock, seccomp]\n",
    "version: 1\nextends: [./a.yaml]\nfilesystem:\n"
    "  read: {remove: [/a], add: [~/x, {path: ./y, optional: true, reason: r}]}\n"
    "  write: [.]\n  execute: {replace: [/usr/bin]}\n  deny: ['**/*.pem', '[!ab]?']\n"
    "  private: [/tmp]\n  hide: [~/.ssh]\n",
    "version: 1\nnetwork:\n  mode: hosts\n  ports: [80, 443]\n  unix: [/run/x.sock]\n  hosts:\n"
    "    - '*.example.org'\n    - {host: api.example, ports: [443], methods: [GET], paths: ['/v1/**'],"
    " inspect: always}\n"
    "  unlisted: ask\n  budget: {requests: 5, bytes: 1MiB, tokens: 10, dollars: '1.50'}\n"
    "  upstreams: [{host: a.example, address: '127.0.0.1:80'}]\n",
    "version: 1\nsecrets:\n  - {name: t, from: {env: TOKEN}, to: [api.example], as: header, field: authorization,"
    " env: T}\n"
    "  - {name: u, from: {command: [/usr/bin/pass, show, x], expires: 10m}, to: [b.example], as: basic,"
    " user: me, env: U}\n"
    "rules: [./r.yaml]\ndetect: [agents, ./d]\n",
    "version: 1\nsyscalls:\n"
    "  allow: [ioctl, {name: socket, when: [{arg: 0, op: mask, value: 1, mask: 0xff}], reason: r}]\n"
    "  deny: [{name: ptrace, errno: EPERM, reason: r}]\n",
    "version: 1\nprocess: {programs: [/bin/sh, {path: /bin/x, digest: 'blake3:" + "0" * 64 + "'}]}\n"
    "env: {pass: [PATH, 'LC_*'], scrub: ['*TOKEN*'], set: {A: b, C: null}}\n"
    "limits: {memory: 1GiB, cpu: 10s, processes: none, wall_time: 1m, output: 1MB}\n",
    "version: 1\ntools:\n  git: {filesystem: {write: [.git]}, network: {mode: none}}\nexamples:\n"
    "  allow: [{read: /a}, {connect: 'tcp:127.0.0.1:80'}, {request: 'GET https://a.example/x'}]\n"
    "  deny: [{syscall: ptrace}, {env: TOKEN}, {write: ~/.ssh/x}]\n",
)  # fmt: skip
KEYS = (*TOP_KEYS, *EXAMPLE_KINDS, *NAMES, *CONDITION_OPERATORS, *LAYERS, *sorted(ERRNOS), *FILES)


def check(data: bytes) -> Iterable[Hashable]:
    """Resolve and compile `data` and each of its tools."""
    try:
        policy = resolve(Source(TOP, data), DictLoader(FILES))
        for one in (policy, *(with_tool(policy, tool) for tool in policy.tools)):
            plan = compile_policy(one)
            assert decode_plan(encode_plan(plan)) == plan, "the plan is not what it was when it is read again"
    except PolicyError as error:
        _told(error, data)
    return ()


def _told(error: PolicyError, data: bytes) -> None:
    assert error.problems, "refused without a problem"
    last = data.count(b"\n") + data.count(b"\r") + 1
    for problem in error.problems:
        assert problem.what, f"nothing is said: {problem}"
        assert problem.line >= 1 <= problem.column, f"no place: {problem}"
        assert problem.file != TOP or problem.line <= last + 1, f"past the end: {problem}"


def _preset(name: str) -> bytes:
    source = load_preset(name)
    assert source is not None
    return source.data


POLICY = Target(
    "policy",
    check,
    (*(seed.encode() for seed in SEEDS), *map(_preset, NAMES)),
    ("capsule/policy/", "capsule/sandbox/compiler.py", "capsule/sandbox/hosts.py", "capsule/errors.py"),
    (*(key.encode() for key in KEYS), b"\n  ", b"\n    - ", b": ", b", ", b"{replace: [", b"{remove: ["),
)
