from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.invoke import invoke


def test_paths_programs_calls_variables_addresses(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path
) -> None:
    answer = invoke(
        capsys, "policy", "explain", "workspace",
        "--path", f"{home}/.ssh/id_ed25519", "--path", "./x", "--exec", "/usr/bin/env", "--syscall", "socket",
        "--syscall", "ptrace", "--env", "PATH", "--connect", "tcp:example.org:443", "--connect", "unix:/run/x",
    )  # fmt: skip
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert f"read {home}/.ssh/id_ed25519: denied" in lines
    assert "read ./x: allowed" in lines
    assert "execute /usr/bin/env: allowed" in lines
    assert "syscall socket: allowed" in lines
    assert "  when arg0 eq 0x1" in lines
    assert "syscall ptrace: denied: nothing allows it" in lines
    assert "  to allow: syscalls: allow: [ptrace]" in lines
    assert "env PATH: allowed" in lines
    assert "connect tcp:example.org:443: denied: nothing allows it" in lines
    assert '  to allow: network: unix: ["/run/x"]' in lines
    assert any(line.startswith("  by preset:strict:") for line in lines)


def test_what_capsule_itself_refuses(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "p.yaml").write_text("version: 1\nextends: [workspace]\n")
    for path in ("capsule.log", "./capsule.log.heads", "p.yaml"):
        answer = invoke(capsys, "policy", "explain", "./p.yaml", "--path", path, "--write")
        assert (answer.code, "  by capsule itself: " in answer.out) == (1, True), answer.out
    for name in ("mount", "io_uring_setup"):
        answer = invoke(capsys, "policy", "explain", "workspace", "--syscall", name)
        assert answer.code == 1
        assert "no policy can allow it" in answer.out
        assert "to allow" not in answer.out
    answer = invoke(capsys, "policy", "explain", "workspace", "--syscall", "opnat")
    assert answer.code == 2
    assert "did you mean 'openat'?" in answer.err


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_what_other_runs_have_here(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path, capsule_binary: Path
) -> None:
    (workspace / "p.yaml").write_text("version: 1\nextends: [workspace]\n")
    asked = [
        (name, "--path", name, "--write") for name in ("p.yaml", "one.log", "one.log.torn-1", "one.logs")
    ]
    before = [invoke(capsys, "policy", "explain", "workspace", *words).code for _, *words in asked]
    assert before == [0, 0, 0, 0]
    run = [str(capsule_binary), "run", "--policy", "./p.yaml", "--log", "one.log", "--", "true"]
    subprocess.run(run, cwd=workspace, check=True, timeout=60)
    answers = {name: invoke(capsys, "policy", "explain", "workspace", *words) for name, *words in asked}
    assert {name: answer.code for name, answer in answers.items()} == {
        "p.yaml": 1, "one.log": 1, "one.log.torn-1": 1, "one.logs": 0,
    }  # fmt: skip
    assert "the policy of another run is kept" in answers["p.yaml"].out
    assert "the log of another run is kept" in answers["one.log"].out


def test_a_bare_program_is_looked_up(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert invoke(capsys, "policy", "explain", "workspace", "--exec", "env").code == 0
    # Not beside: a name that is nowhere in PATH is not started from the working directory.
    (workspace / "nosuch").write_text("#!/bin/sh\n")
    (workspace / "nosuch").chmod(0o755)
    for name in ("nosuch", ""):
        answer = invoke(capsys, "policy", "explain", "workspace", "--exec", name)
        assert (answer.code, answer.out) == (2, "")
        assert f"no program {name!r} in the command's PATH" in answer.err
    assert invoke(capsys, "policy", "explain", "workspace", "--exec", "./nosuch").code == 0


def test_a_bare_program_is_looked_up_where_the_run_does(
    capsys: pytest.CaptureFixture[str], workspace: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A program in a hidden directory is not there for the command, which starts the next of that name.
    (home / "secret").mkdir()
    for name in ("env", "only-there"):
        (home / "secret" / name).write_text("#!/bin/sh\n")
        (home / "secret" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}/secret:/usr/bin")
    assert invoke(capsys, "policy", "explain", "workspace", "--exec", "env").code == 0
    answer = invoke(capsys, "policy", "explain", "workspace", "--exec", "only-there")
    assert answer.code == 1
    # What the policy sets counts, not what the caller has.
    policy = workspace / "set.yaml"
    policy.write_text("version: 1\nextends: [workspace]\nenv: {set: {PATH: /nowhere}}\n")
    assert invoke(capsys, "policy", "explain", str(policy), "--exec", "env").code == 2


@pytest.mark.needs("root")
def test_roots_own_files(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", "--path", "/etc/shadow")
    assert answer.code == 1
    assert "by capsule itself: only root can read it" in answer.out


def test_writing(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert invoke(capsys, "policy", "explain", "workspace", "--path", "x", "--write").code == 0
    answer = invoke(capsys, "policy", "explain", "workspace", "--path", ".git/hooks/a", "--write")
    assert answer.code == 1
    assert "protected: it may be read and never changed" in answer.out
    for kept in ("below/capsule.log", "capsule.log.torn-1", "below/capsule.yaml"):
        answer = invoke(capsys, "policy", "explain", "workspace", "--path", kept, "--write")
        assert answer.code == 1, kept
        assert "by capsule itself" in answer.out


def test_links_are_followed(capsys: pytest.CaptureFixture[str], workspace: Path, home: Path) -> None:
    (workspace / "key").symlink_to(home / ".ssh/id_ed25519")
    assert invoke(capsys, "policy", "explain", "workspace", "--path", "key").code == 1


def test_json(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", "--path", "x", "--syscall", "kill", "--json")
    value = json.loads(answer.out)
    assert [(row["asked"], row["allowed"]) for row in value] == [("read x", True), ("syscall kill", True)]
    assert value[0]["rule"]["file"] == "preset:workspace"


def test_a_summary_when_nothing_is_asked(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace")
    assert answer.code == 0
    assert "private:   /tmp, /var/tmp, /dev/shm" in answer.out.splitlines()
    assert json.loads(invoke(capsys, "policy", "explain", "strict", "--json").out)["write"][0] == "/dev/null"


def test_addresses_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", "--connect", "example.org")
    assert answer.code == 2
    assert "expected tcp:HOST:PORT or unix:/PATH" in answer.err


def test_requests(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork:\n  hosts:\n"
        "    - {host: a.example, ports: [443], methods: [GET, POST], credential: key}\n"
        "secrets:\n  - {name: key, from: {env: T}, to: [a.example], as: header, field: X-Key, env: KEY}\n"
        "rules: [./rules.yaml]\n"
    )
    (workspace / "rules.yaml").write_text(
        "version: 1\nrules:\n"
        "  - {id: no-post, on: http, when: 'http.method == \"POST\"', action: block, reason: read only}\n"
    )
    answer = invoke(capsys, "policy", "explain", "--url", "https://a.example/x", "--env", "KEY")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "env KEY: allowed",
        "  by capsule.yaml:7  secrets: the placeholder of key",
        "request GET https://a.example/x: allowed",
        "  by capsule.yaml:5  network: hosts: [{host: a.example, ports: [443], methods: [GET, POST], credential: key}]",
        "  looked at: yes",
        "  secret key goes in at header X-Key, where its placeholder is (capsule.yaml:7)",
        "  it has to carry the secret key, and no other credential",
        "  private addresses: refused",
    ]
    # A method and a URL are two words to a shell.
    blocked = invoke(capsys, "policy", "explain", "capsule.yaml", "--url", "POST", "https://a.example/x")
    assert blocked.code == 1
    assert "request POST https://a.example/x: denied" in blocked.out
    assert "  rule no-post (rules.yaml:3) blocks: read only" in blocked.out
    refused = invoke(
        capsys,
        "policy",
        "explain",
        "--url",
        "PUT https://a.example/",
        "--url",
        "https://b.example/",
        "--json",
    )
    put, other = json.loads(refused.out)
    assert (put["outcome"], put["allowed"], put["rule"]["line"]) == ("denied", False, 5)
    assert put["allow"] == "network: hosts: [{host: a.example, methods: [PUT]}]"
    assert (other["outcome"], other["rule"], other["allow"]) == (
        "denied",
        None,
        "network: hosts: [b.example]",
    )


def test_what_is_no_request(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", "--url", "https://127.1/")
    assert answer.code == 2
    assert "is a spelling of the address" in answer.err or "spelling of the address 127.0.0.1" in answer.err


def test_broken_rules_are_told_and_nothing_is_allowed(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nnetwork: {hosts: [a.example]}\nrules: [./rules.yaml]\n"
    )
    (workspace / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {id: a, on: http, when: 'http.hots', action: block}\n"
    )
    answer = invoke(capsys, "policy", "explain", "--url", "https://a.example/")
    assert (answer.code, answer.out) == (2, "")
    assert "rules.yaml:3:" in answer.err


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (("--path", ""), "--path:1:1: an empty path"),
        (
            ("--path", "~no-such-user/x"),
            "--path:1:1: '~no-such-user/x' names the home of a user who is not known",
        ),
        (("--path", "~no-such-user", "--write"), "names the home of a user"),
        (("--exec", "~no-such-user/x"), "--exec:1:1: '~no-such-user/x' names the home"),
        (("--connect", "unix:"), "--connect:1:1: an empty path"),
        (("--env", ""), "--env:1:1: '' cannot be the name of a variable"),
        (("--env", "A=B"), "--env:1:1: 'A=B' cannot be the name of a variable"),
    ],
)
def test_a_question_that_is_none_is_told_as_what_it_is(
    question: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", *question)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


@pytest.mark.parametrize("option", ["--path", "--exec"])
def test_a_name_writes_no_line_of_its_own(
    capsys: pytest.CaptureFixture[str], workspace: Path, option: str
) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", option, "./x\n  by nobody\x1b[2J")
    assert answer.out.splitlines()[0].endswith(r" ./x\n  by nobody\x1b[2J: allowed")


def test_a_program_that_is_not_there_writes_no_line_of_its_own(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", "--exec", "x\ncapsule: y")
    assert len(answer.err.splitlines()) == 2
