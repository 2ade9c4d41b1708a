from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from capsule.policy.presets import NAMES
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
