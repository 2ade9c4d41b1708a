from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.native.log import Log
from tests.native.running import Capsule
from tests.sessions.recorded import exec_, session


def test_nothing_yet(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    answer = invoke(capsys, "sessions", "list")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("no sessions; `capsule run -- CMD` makes one")


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_a_run_is_a_session(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path
) -> None:
    ran = Capsule(capsule_binary, workspace).run("sh", "-c", "echo hello > a; exit 3")
    answer = invoke(capsys, "sessions", "list")
    heads, line = answer.out.splitlines()
    assert heads.split() == ["SESSION", "STARTED", "(UTC)", "TOOK", "END", "DENIED", "COMMAND"]
    assert line.startswith(ran.report["run"][:10])
    assert "exit 3" in line
    assert "sh -c 'echo hello > a" in line
    (run,) = json.loads(invoke(capsys, "sessions", "list", "--json").out)["sessions"]
    assert (run["command"], run["code"], run["cause"]) == (
        ["sh", "-c", "echo hello > a; exit 3"],
        3,
        "exited",
    )
    assert (run["policy"], run["cwd"], run["refused"]) == ("workspace", str(workspace), 0)


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_a_run_that_was_killed_is_not_open_for_ever(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path
) -> None:
    """It is open while its supervisor lives; one that was killed leaves a log without an end, which nobody holds."""
    words = [str(capsule_binary), "run", "--", "sh", "-c", "echo up; exec sleep 100"]
    with subprocess.Popen(words, cwd=workspace, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"up\n"
            assert " open " in invoke(capsys, "sessions", "list").out
            (run,) = json.loads(invoke(capsys, "sessions", "list", "--json").out)["sessions"]
            assert (run["ended"], run["cut_off"]) == (None, False)
        finally:
            running.kill()
    answer = invoke(capsys, "sessions", "list")
    assert "  cut off  " in answer.out
    (run,) = json.loads(invoke(capsys, "sessions", "list", "--json").out)["sessions"]
    assert (run["ended"], run["cut_off"]) == (None, True)
    for verb in ("show", "timeline"):
        assert "nobody records it: killed, or the host went down" in " ".join(
            invoke(capsys, "sessions", verb).out.split()
        )


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_of_a_log_from_elsewhere_nobody_says_that_a_run_was_cut_off(
    capsys: pytest.CaptureFixture[str],
    capsule_binary: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    words = [str(capsule_binary), "run", "--", "sh", "-c", "echo up; exec sleep 100"]
    with subprocess.Popen(words, cwd=workspace, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.kill()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    (run,) = json.loads(invoke(capsys, "sessions", "list", "--json").out)["sessions"]
    assert (run["ended"], run["cut_off"]) == (None, False)


def test_every_line_fits_and_names_tell_sessions_apart(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.record(exec_(f"r-0000000000{n:06}") for n in range(30))
    lines = invoke(capsys, "sessions", "list").out.splitlines()
    assert len(lines) == 22
    assert all(len(line) <= 80 for line in lines)
    names = [line.split()[0] for line in lines[1:-1]]
    assert len(set(names)) == 20
    assert lines[-1] == "11 more; --limit 31 shows all"


def test_filters(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.record([exec_("r-2")])
    assert [
        run["run"] for run in json.loads(invoke(capsys, "sessions", "list", "--json").out)["sessions"]
    ] == ["r-2", "r-1"]
    (denied,) = json.loads(invoke(capsys, "sessions", "list", "--denied", "--json").out)["sessions"]
    assert (denied["run"], denied["refused"]) == ("r-1", 5)
    assert json.loads(invoke(capsys, "sessions", "list", "--since", "2999-01-01", "--json").out)["total"] == 0
    assert json.loads(invoke(capsys, "sessions", "list", "--since", "1h", "--json").out)["total"] == 2
    assert json.loads(invoke(capsys, "sessions", "list", "--failed", "--json").out)["total"] == 2
    answer = invoke(capsys, "sessions", "list", "--since", "yesterday")
    assert answer.code == 2
    assert "write 2h, 7d" in answer.err


def test_a_log_named_once_is_known_from_then_on(
    log: Log, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert "no sessions" in invoke(capsys, "sessions", "list").out
    assert invoke(capsys, "sessions", "list", "--log", str(log.path)).out.splitlines()[1].startswith("r-1")
    log.record(session("r-2"))
    assert json.loads(invoke(capsys, "sessions", "list", "--json").out)["total"] == 2
    answer = invoke(capsys, "sessions", "list", "--log", "none.log")
    assert answer.code == 125
    assert "there is no log at" in answer.err
