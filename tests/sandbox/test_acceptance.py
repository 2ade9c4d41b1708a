from __future__ import annotations

import pytest

from capsule.sandbox.acceptance import beyond
from capsule.sandbox.access import Variables
from tests.sandbox.plans import plan_of, preset_plan

HERE = Variables("/srv/repo", "/home/u", "/srv/repo")
HOST = "network: {hosts: [{host: a.example, methods: [GET]}]}"


def words(text: str) -> list[str]:
    return [change.what for change in beyond(preset_plan("workspace"), plan_of(text), HERE)]


@pytest.mark.parametrize(
    "text",
    [
        "extends: [workspace]",
        "extends: [python, git, secret-files]\nlimits: {memory: 64GiB}",
        "extends: [workspace]\nenv: {pass: [LANG], set: {A: b}}\nfilesystem: {execute: [/opt/tool]}",
        "extends: [workspace]\nfilesystem: {write: [./out]}",
        "extends: [workspace, pypi]",
        "filesystem: {read: [./in], execute: [/usr/bin]}\nrequire: [namespaces, network, landlock, seccomp, supervisor]\naudit: writes",  # noqa: E501
    ],
)
def test_what_gives_no_way_out_needs_nobody_s_word(text: str) -> None:
    assert words(text) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("filesystem: {read: [~/.ssh]}", "may read ~/.ssh"),
        ("filesystem: {read: [~/Documents]}", "may read ~/Documents"),
        ("filesystem: {read: [/srv/data]}", "may read /srv/data"),
        ("filesystem: {read: [/]}", "may read /"),
        ("filesystem: {write: [~/.cache/x]}", "may write ~/.cache/x"),
        ("filesystem: {execute: [/run]}", "may execute /run"),
        ("network: {unix: [/run/docker.sock]}", "may talk to the host's service at /run/docker.sock"),
        ("network: {ports: [5432]}", "may reach port 5432 of the host's loopback"),
        ("network: {mode: open}", "the host's own network: everything may be reached, unseen"),
        # What is only read from carries words out in its name.
        (HOST, "may read from a.example"),
        ("syscalls: {allow: [ptrace]}", "may call ptrace (group debug)"),
        ("env: {pass: ['*']}", "variables like * are passed"),
    ],
)
def test_ways_out_do(text: str, what: str) -> None:
    assert what in " / ".join(words(f"extends: [workspace]\n{text}"))


def test_secrets_do() -> None:
    secret = "{name: k, from: {file: ~/.gitconfig}, to: [a.example], as: header, field: X, env: K}"
    found = words(f"extends: [workspace]\n{HOST}\nsecrets: [{secret}]")
    assert any(what.startswith("the secret k is used: the file ~/.gitconfig") for what in found), found


def test_leaving_the_preset_s_denies_out_does() -> None:
    assert "/**/.git/hooks is no longer protected" in words("filesystem: {write: [./out]}"), (
        "a repository may lie there"
    )
    found = words("filesystem: {read: [.], write: [.]}")
    assert "/**/.git/hooks is no longer protected" in found
    assert "~/.ssh is no longer denied" not in found
