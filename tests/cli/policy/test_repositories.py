"""`explain` about git's own names says what a run would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule.cli.policy.repositories import leading
from tests.cli.invoke import invoke


def allowed(capsys: pytest.CaptureFixture[str], path: str) -> bool:
    return invoke(capsys, "policy", "explain", "workspace", "--path", path, "--write").code == 0


def test_the_first_repository_and_files_that_lead_to_one(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    answer = invoke(capsys, "policy", "explain", "workspace", "--path", ".git", "--write")
    assert answer.code == 1
    assert 'to allow: filesystem: {protect: {remove: ["/**/.git/hooks", ' in answer.out
    assert allowed(capsys, "sub/.git")
    (workspace / "lib").mkdir()
    (workspace / "lib/.git").write_text("gitdir: ../.git/modules/lib\n")
    assert not allowed(capsys, "lib/.git")
    (workspace / "gone").symlink_to("nowhere")
    (workspace / "at").mkdir()
    (workspace / "at/.git").symlink_to("../lib")
    assert not allowed(capsys, "at/.git")
    (workspace / ".git").mkdir()
    assert allowed(capsys, ".git")
    assert not allowed(capsys, "lib/deep/.git/hooks/pre-commit")


def test_where_settings_lead(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert allowed(capsys, "tools/hooks/pre-commit")
    (workspace / ".git").mkdir()
    (workspace / ".git/config").write_text("[core]\n\thooksPath = tools/hooks\n")
    answer = invoke(capsys, "policy", "explain", "workspace", "--path", "tools/hooks/x", "--write")
    assert answer.code == 1
    assert "core.hooksPath leads here" in answer.out
    assert allowed(capsys, "tools/other")


def test_a_bare_repository(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    for name in ("HEAD", "objects", "refs"):
        (workspace / name).mkdir()
    assert not allowed(capsys, "hooks/update")
    assert not allowed(capsys, "config")
    assert allowed(capsys, "objects/x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[core]\n\thooksPath = .husky/_\n", [".husky/_"]),
        ('[CORE] hookspath="a b" # no\n', ["a b"]),
        ("[core]\nhooksPath = a\n[core]\nhooksPath = b\n", ["a", "b"]),
        ('[core "x"]\nhooksPath = a\n[user]\nhooksPath = b\n', []),
        ("# [core]\n[core]\n;hooksPath = a\n", []),
    ],
)
def test_the_setting_is_read_as_git_reads_it(text: str, expected: list[str]) -> None:
    assert leading(text) == [("hookspath", value) for value in expected]


def test_includes_are_read_as_git_reads_them() -> None:
    text = '[include] path = a\n[includeIf "gitdir:~/x[]]/"]\npath=b\n[includeIf]\npath=c\n[include "x"]\npath = d\n'
    assert leading(text) == [("path", "a"), ("path", "b")]


def test_what_the_settings_include(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert allowed(capsys, ".gitconfig")
    (workspace / ".git").mkdir()
    (workspace / ".git/config").write_text("[include]\n\tpath = ../.gitconfig\n")
    (workspace / ".gitconfig").write_text("[include]\n\tpath = more\n\tpath = .gitconfig\n")
    answer = invoke(capsys, "policy", "explain", "workspace", "--path", ".gitconfig", "--write")
    assert answer.code == 1
    assert "the repository's settings include it" in answer.out
    assert not allowed(capsys, "more")
    assert allowed(capsys, "other")


def test_names_in_a_directory_are_kept_at_a_repository_s_top(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "lib/.git").mkdir(parents=True)
    for name in ("lib/.config/mise.toml", "lib/mise.local.toml", "lib/.hg/hgrc", "lib/.config/lefthook.yml"):
        assert not allowed(capsys, name), name
    for name in ("lib/.config/x", "lib/.hg/store", "lib/hgrc"):
        assert allowed(capsys, name), name
