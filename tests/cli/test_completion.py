from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from capsule.cli.main import root
from capsule.policy.presets import NAMES
from scripts import reference
from tests.cli.invoke import invoke


def complete(*words: str) -> list[str]:
    """What a shell is offered for the last of the words."""
    done = subprocess.run(
        [sys.executable, "-m", "capsule.cli"],
        env={
            "COMP_WORDS": " ".join(("capsule", *words)),
            "COMP_CWORD": str(len(words)),
            "_CAPSULE_COMPLETE": "bash_complete",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split(",", 1)[1] for line in done.stdout.splitlines()]


def test_verbs_are_completed() -> None:
    assert {"run", "policy", "verify", "log", "completion"} <= set(complete(""))
    assert complete("policy", "ex") == ["explain"]


def test_options_and_presets_are_completed() -> None:
    assert complete("policy", "explain", "workspace", "--sys") == ["--syscall"]
    assert set(NAMES) <= set(complete("policy", "check", ""))
    assert "strict" in complete("policy", "diff", "workspace", "st")
    assert complete("run", "--pol") == ["--policy"]
    assert complete("completion", "z") == ["zsh"]


def test_values_of_native_options_are_completed() -> None:
    assert complete("run", "--audit", "w") == ["writes"]
    assert complete("trace", "--policy", "st") == ["strict"]
    assert complete("run", "--allow-degraded", "land") == ["landlock"]
    assert complete("policy", "check", "./x") == ["./x"]


PAGES = {
    tuple(name.split()): text
    for name, text in re.findall(
        r"^##+ capsule ([^\n]+)\n\n```\n(.*?)^```",
        (reference.REFERENCE / "cli.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
}


def offered(shell: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> set[str]:
    """The names that the shell reads out of our answer, the last of the words being unfinished."""
    monkeypatch.setenv("COMP_WORDS", " ".join(("capsule", *words)))
    # fish sends the unfinished word, the others its number.
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
    kind = get_completion_class(shell)
    assert kind is not None
    lines = kind(root, {}, "capsule", "_CAPSULE_COMPLETE").complete().splitlines()
    if shell == "zsh":
        return set(lines[1::3])
    return {line.split("\t")[0].split(",", 1)[1] for line in lines}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_and_option_of_the_help_is_offered(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verbs = {words[0] for words in PAGES}
    assert offered(shell, monkeypatch, "") == verbs
    for words, page in PAGES.items():
        inner = {other[1] for other in PAGES if len(other) == 2 and other[:1] == words}
        if inner:
            assert offered(shell, monkeypatch, *words, "") == inner
        text = page.rpartition("\nOptions:\n")[2]
        described = set(re.findall(r"(?:^ {2}(?:-\w, )?|\[)(--[a-z-]+)", text, re.MULTILINE))
        assert offered(shell, monkeypatch, *words, "--") == described | {"--help"}, words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_the_binary(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "completion", shell)
    assert answer.code == 0
    assert f"_CAPSULE_COMPLETE={shell}_complete" in answer.out
    assert invoke(capsys, "completion", "tcsh").code == 2


def test_the_bash_script_completes_in_bash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(invoke(capsys, "completion", "bash").out)
    program = tmp_path / "capsule"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m capsule.cli "$@"\n')
    program.chmod(0o755)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [
            bash, "--norc", "-c",
            f'source "{script}"; COMP_WORDS=(capsule policy che); COMP_CWORD=2; '
            f'_capsule_completion "{program}" che; echo "${{COMPREPLY[@]}}"',
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "check\n"
