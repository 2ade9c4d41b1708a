from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from capsule.cli import main as main_module
from capsule.cli.main import main, root
from tests.cli.invoke import invoke, unread

POLICY_VERBS = [("policy", verb) for verb in ("check", "compile", "diff", "explain", "schema", "test")]


def _leaves(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        assert verb is not None
        if isinstance(verb, click.Group):
            yield from _leaves(verb, (*before, name))
        else:
            yield (*before, name)


LEAVES = list(_leaves(root))
VERBS = [
    *((name,) for name in root.list_commands(click.Context(root))),
    *(leaf for leaf in LEAVES if leaf[1:]),
]
NATIVE = {"run", "trace", "log", "verify", "prove", "record"}
# What they print is for another program already: a shell's script, lines of JSON.
FOR_PROGRAMS = {("completion",), ("sessions", "export")}


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    answer = invoke(capsys, *verb, "--help")
    assert answer.code == 0
    assert f"Example: capsule {' '.join(verb)}" in answer.out
    assert invoke(capsys, *verb, "-h").out == answer.out


@pytest.mark.parametrize("verb", LEAVES, ids=" ".join)
def test_every_verb_offers_json(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str], capsule_binary: Path
) -> None:
    if verb[0] in NATIVE:
        words = [str(capsule_binary), *verb]
        told = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout
        assert "\nexample: " in told
        assert f"capsule {verb[0]}" in told.partition("\nexample: ")[2]
        refused = subprocess.run([*words, "--json", "--nosuch"], capture_output=True, text=True, check=False)
        answer = refused.stdout or refused.stderr.splitlines()[-1]
        assert refused.returncode in {2, 64, 125}
    else:
        told = invoke(capsys, *verb, "--help").out
        answer = invoke(capsys, *verb, "--json", "--nosuch").out
    assert ("--json" in told) is (verb not in FOR_PROGRAMS)
    if verb not in FOR_PROGRAMS:
        assert isinstance(json.loads(answer), dict)


@pytest.mark.parametrize("verb", POLICY_VERBS, ids=" ".join)
def test_every_policy_verb_has_json(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    more = {"diff": ("strict", "workspace"), "schema": ()}.get(verb[1], ("workspace",))
    answer = invoke(capsys, *verb, *more, "--json")
    assert answer.code in {0, 1}
    assert answer.out.count("\n") == 1
    json.loads(answer.out)


def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "policy", "chekc")
    assert (answer.code, answer.out) == (2, "")
    assert "capsule: No such command 'chekc'." in answer.err
    assert "try 'capsule policy --help'" in answer.err
    assert invoke(capsys, "policy", "diff").code == 2
    assert invoke(capsys, "policy", "explain", "workspace", "--write").code == 2


def test_a_group_without_a_verb_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "policy")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("Usage: capsule policy [OPTIONS] COMMAND")
    assert "capsule: " not in answer.err


def test_where_json_was_asked_for_no_answer_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    answer = invoke(capsys, "policy", "compile", "nosuch.yaml", "--json")
    told = json.loads(answer.out)
    assert (told["ok"], told["exit"]) == (False, answer.code)
    assert told["error"]["message"] in answer.err
    answer = invoke(capsys, "policy", "check", "--json", "--nosuch")
    told = json.loads(answer.out)
    assert (answer.code, told["exit"], told["error"]["next_step"]) == (
        2,
        2,
        "see capsule policy check --help",
    )
    assert "--nosuch" in told["error"]["message"]


def test_interruptions_and_broken_pipes_have_a_shells_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    for raised, code in ((click.Abort(), 130), (BrokenPipeError(), 141)):

        def stop(raised: BaseException = raised, **_: object) -> None:
            raise raised

        monkeypatch.setattr(main_module.root, "main", stop)
        with pytest.raises(SystemExit) as caught:
            main(["policy"])
        assert caught.value.code == code


def test_what_the_system_refuses_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, told in (
        ("/srv/\x1bdata", "capsule: /srv/\\x1bdata: Read-only file system"),
        (None, "capsule: not all could be written: Read-only file system"),
    ):

        def stop(name: str | None = name, **_: object) -> None:
            raise OSError(30, "Read-only file system", name)

        monkeypatch.setattr(main_module.root, "main", stop)
        answer = invoke(capsys, "policy")
        assert (answer.code, answer.err.splitlines()[0]) == (125, told)


def test_a_verb_imports_nothing_of_the_others() -> None:
    """Starting costs what the verb needs: help of the root reads no policy code."""
    script = (
        "import sys\nfrom capsule.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('ruamel') or name.startswith('capsule.cli.policy')))"  # noqa: E501
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_runs_as_the_native_binary_calls_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "capsule.cli", "policy", "compile", "workspace"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["name"] == "workspace"
    refused = subprocess.run(
        [sys.executable, "-m", "capsule.cli", "policy", "compile", "./none.yaml"],
        capture_output=True,
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"capsule: ./none.yaml:1:1: the file none.yaml cannot be read: No such file" in refused.stderr


def test_the_root_lists_its_verbs() -> None:
    context = click.Context(root)
    assert {"completion", "log", "policy", "prove", "run", "verify"} <= set(root.list_commands(context))


def test_a_reader_that_went_away_is_no_failure_of_ours() -> None:
    """What is still held when the verb is over meets the closed pipe."""
    for words in (("policy", "schema"), ("--help",), ("policy", "--help")):
        assert unread(*words) == (141, ""), words
