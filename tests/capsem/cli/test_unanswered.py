"""Every verb, asked for JSON, tells its errors in JSON, too: one test over all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from capsem.cli import main as subject
from capsem.cli.unanswered import asked
from tests.capsem.cli.test_main import verbs

RUNS = {("run",), ("exec",)}
# What cannot be answered where there can be no service, no image and no settings, by its words.
WORDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("answer",): ("m-00000000", "a-1", "allow"), ("apply",): ("x",), ("asks",): ("x",), ("branch",): ("x",),
    ("clean",): (), ("config", "explain"): ("no.such.key",), ("config", "get"): ("no.such.key",),
    ("config", "set"): ("no.such.key", "1"), ("cp",): ("x:/a", "b"), ("create",): (), ("delete",): ("x",),
    ("diff",): ("x",), ("doctor",): ("x",), ("exec",): ("x", "--", "true"), ("fork",): ("x", "y"),
    ("history",): ("x",), ("image", "build"): ("--recipe", "no-such-recipe"), ("image", "inspect"): ("x",),
    ("image", "rm"): ("x",), ("image", "verify"): ("x",), ("info",): ("x",), ("list",): (), ("logs",): ("x",),
    ("persist",): ("x", "y"), ("purge",): (), ("query",): ("x", "select 1"), ("restart",): ("x",),
    ("resume",): ("x",), ("run",): ("true",), ("snapshot", "create"): ("x", "s"),
    ("snapshot", "diff"): ("x", "s"), ("snapshot", "list"): ("x",), ("snapshot", "revert"): ("x", "s"),
    ("snapshot", "rm"): ("x", "s"), ("start",): ("x",), ("stop",): ("x",), ("suspend",): ("x",),
    ("timeline",): ("x",), ("verify",): ("x",),
}  # fmt: skip
# They answer there as anywhere.
ALWAYS = {("config", "schema"), ("disk",), ("image", "list"), ("version",)}
# Neither answers in JSON (tests/capsem/cli/test_main.py).
NEVER = {("shell",), ("completion",)}

EVERY = sorted(path for path, _ in verbs(subject.root))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that cannot be one."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.chdir(tmp_path)


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any] | None, str]:
    """Exit code, what was said in JSON, and the rest of standard error."""
    with pytest.raises(SystemExit) as ended:
        subject.main(words)
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    if words[0] in {"run", "exec"}:
        *rest, last = err.splitlines()
        assert out == ""
        return ended.value.code, json.loads(last), "\n".join(rest)
    said: dict[str, Any] | None = None
    if out:
        (line,) = out.splitlines()
        said = json.loads(line)
    return ended.value.code, said, err


def test_no_verb_is_left_out() -> None:
    assert set(EVERY) == WORDS.keys() | ALWAYS | NEVER


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("path", sorted(WORDS), ids=" ".join)
def test_what_cannot_be_done_is_told_in_json(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, words = fails(capsys, *path, "--json", *WORDS[path])
    assert said is not None
    assert code > 0
    if path in RUNS:
        told, end = said["exit"], said["exit"]["code"]
        assert (said["capsem"], told["cause"]) == (1, "failed")
        message = told["reason"]
    else:
        told, end = said["error"], said["exit"]
        assert said["ok"] is False
        assert told["kind"].endswith("Error")
        message = told["message"]
        assert message in words, "the words are on standard error as ever"
    assert end == code
    assert message
    assert told["next_step"]


@pytest.mark.parametrize("path", [path for path in EVERY if path not in NEVER], ids=" ".join)
def test_a_command_line_that_is_wrong_is_told_in_json(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, words = fails(capsys, *path, "--json", *(() if path in RUNS else ("--no-such-option",)))
    assert said is not None
    assert code == 2
    assert f"capsem {' '.join(path)} --help" in words
    next_step = said["exit"]["next_step"] if path in RUNS else said["error"]["next_step"]
    assert next_step == f"see capsem {' '.join(path)} --help"


@pytest.mark.usefixtures("nowhere")
def test_without_it_there_is_nothing_but_words(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["list"],
        ["run", "--", "echo", "--json"],
        ["exec", "x", "ls", "--json"],
        ["cp", "x:/a", "b"],
    ):
        with pytest.raises(SystemExit):
            subject.main(words)
        out, err = capsys.readouterr()
        assert out == ""
        assert all(line.startswith("capsem: ") for line in err.splitlines()), err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("list --json", True), ("list -- --json", False), ("run --json -- true", True), ("run --json true", True),
        ("run true --json", False), ("run -- true --json", False), ("run --image --json true", False),
        ("run --image x --json true", True), ("exec --json m true", True), ("exec m true --json", False),
        ("exec -u 0 --json m true", True), ("--json", True), ("", False),
    ],
)  # fmt: skip
def test_a_command_s_own_word_is_not_ours(words: str, wanted: bool) -> None:
    root = subject.root
    assert isinstance(root, click.Group)
    assert (asked(root, words.split()) is not None) is wanted
