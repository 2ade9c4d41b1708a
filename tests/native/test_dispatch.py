"""The binary does its own verbs and hands the others to Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.log import Log


def capsule(binary: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, *arguments], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def lonely(capsule_binary: Path, tmp_path: Path) -> Path:
    """The binary where no interpreter lies beside it."""
    return Path(shutil.copy(capsule_binary, tmp_path / "capsule"))


def test_help_names_every_verb_and_goes_to_standard_output(capsule_binary: Path) -> None:
    answer = capsule(capsule_binary, "--help")
    assert (answer.returncode, answer.stderr) == (0, "")
    for verb in ("run", "verify", "log", "prove", "record", "trace", "policy", "profile", "doctor", "attack"):
        assert f"capsule {verb}" in answer.stdout


def test_without_a_verb_help_is_an_error(capsule_binary: Path) -> None:
    answer = capsule(capsule_binary)
    assert (answer.returncode, answer.stdout) == (64, "")
    assert "capsule run" in answer.stderr


def test_an_unknown_verb_is_named_without_its_escapes(capsule_binary: Path) -> None:
    answer = capsule(capsule_binary, "rnu\x1b[2J")
    assert answer.returncode == 64
    assert "no command" in answer.stderr
    assert "\x1b" not in answer.stderr


def test_a_verb_of_python_becomes_python(capsule_binary: Path) -> None:
    answer = capsule(capsule_binary, "policy", "check", "workspace")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("workspace: good")


def test_the_exit_code_is_pythons(capsule_binary: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nfilesytem: {}\n")
    answer = capsule(capsule_binary, "policy", "check", str(policy))
    assert answer.returncode == 2
    assert "filesystem" in answer.stderr


def test_without_an_interpreter_it_says_where_it_looked(lonely: Path) -> None:
    answer = capsule(lonely, "policy", "check", "workspace")
    assert answer.returncode == 125
    assert str(lonely.with_name("python3")) in answer.stderr
    assert "CAPSULE_PYTHON" in answer.stderr


def test_a_named_interpreter_is_used_and_nothing_else(lonely: Path) -> None:
    answer = capsule(lonely, "policy", "check", "workspace", CAPSULE_PYTHON=sys.executable)
    assert answer.returncode == 0
    answer = capsule(lonely, "policy", "check", "workspace", CAPSULE_PYTHON="/nonexistent/python")
    assert answer.returncode == 125
    assert "/nonexistent/python" in answer.stderr


def test_the_working_directory_does_not_decide_which_capsule_is_asked(
    capsule_binary: Path, workspace: Path
) -> None:
    (workspace / "capsule").mkdir()
    (workspace / "capsule" / "__init__.py").write_text("raise SystemExit('planted')\n")
    answer = capsule(capsule_binary, "policy", "check", "workspace", PYTHONPATH=str(workspace))
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("run", "--help"),
        ("log", "--key"),
        ("log", "--checkpoint"),
        ("log",),
        ("prove", "0"),
        ("verify",),
        ("policy", "--help"),
        ("policy", "schema"),
        ("policy", "check", "workspace"),
        ("policy", "diff", "workspace", "workspace"),
    ],
    ids=" ".join,
)
def test_an_answer_that_cannot_be_written_is_said_and_no_success(
    words: tuple[str, ...], capsule_binary: Path, tmp_path: Path
) -> None:
    Log(capsule_binary, tmp_path / "capsule.log").record([{"type": "exec", "run": None}])
    subprocess.run([capsule_binary, *words], cwd=tmp_path, stdout=subprocess.DEVNULL, check=True)
    for where, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        done = subprocess.run(
            ["sh", "-c", f'"$0" "$@" {where}', capsule_binary, *words],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, "Traceback" in done.stderr) == (125, False), done.stderr
        what = "not all could be" if words[0] == "policy" else "the answer cannot be"
        assert done.stderr.startswith(f"capsule: {what} written")
        assert why in done.stderr
        assert "standard output" in done.stderr


def test_an_answer_that_is_no_stays_no_where_it_cannot_be_written(
    capsule_binary: Path, tmp_path: Path
) -> None:
    (tmp_path / "capsule.log").write_bytes(b"nothing of ours\n")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([capsule_binary, "verify"], cwd=tmp_path, stdout=full, check=False)
    assert done.returncode == 10


@pytest.mark.parametrize("verb", ["policy check", "diff", "rules list", "log", "verify", "run -- true"])
def test_a_working_directory_that_is_gone_is_named(verb: str, capsule_binary: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", f'rmdir ../gone; "$0" {verb}', capsule_binary],
        cwd=gone, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (125, False), done.stderr
    assert "No such file or directory" in done.stderr
    assert "written" not in done.stderr
