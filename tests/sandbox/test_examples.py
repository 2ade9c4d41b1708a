from __future__ import annotations

from capsule.sandbox.access import Access
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.examples import ExampleResult, decide, run_examples
from tests.policy.documents import resolve_text
from tests.sandbox.plans import VARIABLES

TEXT = """version: 1
filesystem: {read: [./src], write: [./out], execute: [/usr/bin], deny: ['**/.env']}
network: {ports: [5432], unix: [~/pg.sock], hosts: [{host: a.example, methods: [GET]}]}
syscalls: {groups: [files]}
env: {pass: [HOME]}
examples:
  allow:
    - read: ./src/a
    - write: ./out/a
    - execute: /usr/bin/git
    - connect: tcp:127.0.0.1:5432
    - connect: unix:~/pg.sock
    - request: https://a.example/x
    - syscall: openat
    - env: HOME
    - read: ./elsewhere
  deny:
    - read: ./src/.env
    - write: ./src/a
    - execute: ./src/a
    - connect: unix:/run/x
    - request: POST https://a.example/x
    - syscall: ptrace
    - env: PATH
    - write: ./out/a
"""


def results() -> tuple[ExampleResult, ...]:
    policy = resolve_text(TEXT)
    access = Access(compile_policy(policy), VARIABLES, policy.sections.environment)
    return run_examples(policy, access)


def test_examples_are_decided_and_compared() -> None:
    assert [result.title for result in results() if not result.passed] == [
        "allow read ./elsewhere",
        "deny write ./out/a",
    ]
    assert len(results()) == 17


def test_a_failed_example_says_why() -> None:
    missing, written = [result for result in results() if not result.passed]
    assert missing.decision.allow == 'filesystem: read: ["./elsewhere"]'
    assert missing.example.origin.line == 16
    assert written.decision.rule is not None
    assert written.decision.rule.text == 'filesystem: write: ["./out"]'


def test_one_decision() -> None:
    policy = resolve_text(TEXT)
    access = Access(compile_policy(policy), VARIABLES, policy.sections.environment)
    assert decide(access, "read", "${workspace}/src").granted
    assert not decide(access, "connect", "tcp:127.0.0.1:1").granted
