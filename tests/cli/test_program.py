"""`capsule run -- CMD<TAB>`: programs first, then files, in every shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from capsule.cli.main import root
from capsule.cli.program import programs
from tests.cli.invoke import invoke


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH: two programs, a file that does not run, a directory."""
    for name, mode in (("zz-one", 0o755), ("zz-two", 0o755), ("zz-text", 0o644)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "zz-directory").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{tmp_path}/absent")
    return tmp_path


def offered(shell: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[tuple[str, str]]:
    """Kind and value of each answer that the shell reads."""
    monkeypatch.setenv("COMP_WORDS", " ".join(("capsule", *words)))
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
    kind = get_completion_class(shell)
    assert kind is not None
    lines = kind(root, {}, "capsule", "_CAPSULE_COMPLETE").complete().splitlines()
    if shell == "zsh":
        return [(lines[at], lines[at + 1]) for at in range(0, len(lines), 3)]
    pairs = [line.split("\t")[0].split(",", 1) for line in lines]
    return [(pair[0], pair[1]) for pair in pairs]


def test_only_what_runs_is_a_program(path: Path) -> None:
    assert programs("zz") == ["zz-one", "zz-two"]
    assert programs("zz-t") == ["zz-two"]
    assert programs("absent") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_first_word_is_a_program_and_the_others_are_files(
    shell: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [("plain", "zz-one"), ("plain", "zz-two")]
    for verb in ("run", "trace"):
        assert offered(shell, monkeypatch, verb, "--", "zz") == both
        assert offered(shell, monkeypatch, verb, "zz") == both
        assert offered(shell, monkeypatch, verb, "--", "zz-one", "zz") == [("file", "zz")]
        assert offered(shell, monkeypatch, verb, "--", "./zz") == [("file", "./zz")]
        assert offered(shell, monkeypatch, verb, "--", "no-such") == [("file", "no-such")]
    assert offered(shell, monkeypatch, "profile", "--", "zz") == both
    assert offered(shell, monkeypatch, "profile", "zz") == [("file", "zz")]


def test_bash_offers_programs(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.defpath}")
    script = path / "completion.bash"
    script.write_text(invoke(capsys, "completion", "bash").out)
    program = path / "capsule"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m capsule.cli "$@"\n')
    program.chmod(0o755)
    bash = shutil.which("bash", path=os.defpath)
    assert bash is not None
    done = subprocess.run(
        [
            bash, "--norc", "-c",
            f'source "{script}"; COMP_WORDS=(capsule run -- zz-o); COMP_CWORD=3; '
            f'_capsule_completion "{program}" zz-o; echo "${{COMPREPLY[@]}}"',
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "zz-one\n"
