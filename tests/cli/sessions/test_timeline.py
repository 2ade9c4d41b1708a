from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.native.log import Log
from tests.native.running import Capsule
from tests.sessions.recorded import denied, exec_, http, session, write


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_the_story_of_a_real_run(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path
) -> None:
    Capsule(capsule_binary, workspace).run(
        "sh", "-c", "echo hi > a; mv a b; cat ~/.ssh/id_ed25519; rm b; exit 4"
    )
    answer = invoke(capsys, "sessions", "timeline")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    order = ["started", "ran", "wrote", "renamed", "removed", "ended"]
    places = [next(at for at, line in enumerate(lines) if f" {word} " in line) for word in order]
    assert places == sorted(places), answer.out
    assert "./a → ./b" in answer.out
    assert "policy  workspace (preset:workspace), tier" in answer.out


def test_the_middle_of_a_long_story_is_left_out(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.record(each for n in range(100) for each in (exec_("r-2"), write(f"/w/{n}", run="r-2")))
    short = invoke(capsys, "sessions", "timeline", "r-2").out
    assert "155 more; --all shows them" in short
    assert invoke(capsys, "sessions", "timeline", "r-2", "--all").out.count(" wrote ") == 100
    assert len(json.loads(invoke(capsys, "sessions", "timeline", "r-2", "--json").out)["story"]) == 200


EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\u2028\x9b31m"


@pytest.mark.parametrize("verb", ["timeline", "show", "list", "query"])
def test_escape_sequences_never_reach_the_terminal(
    log: Log, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """Every string of every entry is an attempt on the terminal; one line stays one line."""

    def poison(value: object) -> object:
        if isinstance(value, dict):
            return {key: poison(each) for key, each in value.items()}
        if isinstance(value, list):
            return [poison(each) for each in value]
        return EVIL + value + EVIL if isinstance(value, str) else value

    kept = ("type", "run", "operation", "action", "method")
    for each in [*session("r-2"), denied(EVIL, run="r-2"), http(EVIL, run="r-2")]:
        log.record([{key: value if key in kept else poison(value) for key, value in each.items()}])
    words = {
        "timeline": ["r-2", "--all"],
        "show": ["r-2"],
        "list": [],
        "query": ["SELECT host, path FROM http"],
    }[verb]
    answer = invoke(capsys, "sessions", verb, *words)
    assert answer.code == 0
    assert all(char.isprintable() or char == "\n" for char in answer.out + answer.err)
    assert "\\x1b" in answer.out or verb == "list"
    as_json = invoke(capsys, "sessions", verb, *words, "--json").out
    assert as_json.count("\n") == 1
    assert not set(as_json) & set("\x1b\x07\x9b\u202e\u2028")
    json.loads(as_json)


def test_a_huge_text_is_one_line(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.record(
        [
            exec_("r-3", "x" * 4000, program="/bin/" + "y" * 3000),
            write("/w/" + "z" * 3900, run="r-3"),
            denied("/" + "q" * 3000, run="r-3"),
        ]
    )
    lines = invoke(capsys, "sessions", "timeline", "r-3").out.splitlines()
    assert max(map(len, lines)) <= 80
