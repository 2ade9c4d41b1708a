"""`capsule log`: what a person and a program see, and what they never see."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from pathlib import Path

import pytest

from tests.audit import forge
from tests.native.log import Log


@pytest.fixture
def log(capsule_binary: Path, tmp_path: Path) -> Log:
    log = Log(capsule_binary, tmp_path / "capsule.log")
    log.record([
        {"type": "exec", "run": "r-one", "program": "/usr/bin/git"},
        {"type": "denied", "run": "r-two", "program": "\x1b]0;owned\x07cat", "target": "/etc/\u202eshadow"},
        {"type": "egress.http", "run": "r-two", "host": "example.org"},
    ])  # fmt: skip
    return log


def test_entries_are_one_line_each(log: Log) -> None:
    text = log.text()
    assert len(text.splitlines()) == 4
    assert "/usr/bin/git" in text
    assert "denied" in text


def test_recorded_data_cannot_reach_a_terminal_raw(log: Log) -> None:
    assert all(char.isprintable() or char == "\n" for char in log.text())
    for name in ("line-raw-c1", "line-raw-control", "sound"):
        shown = log.call("log", forge.VECTORS / f"{name}.log")
        assert all(char.isprintable() or char == "\n" for char in shown.stdout + shown.stderr)


@pytest.mark.needs("pty")
def test_colour_is_for_terminals_and_only_ours(log: Log) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        subprocess.run([log.binary, "log", log.path], stdout=follower, check=True, timeout=30)
        os.close(follower)
        shown = b""
        while True:
            try:
                piece = terminal.read(65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
    assert b"\x1b[31m" in shown
    assert b"\x1b]" not in shown
    assert "\u202e".encode() not in shown


def test_filters(log: Log) -> None:
    def seqs(*arguments: str) -> list[int]:
        return [json.loads(line)["seq"] for line in log.text("--json", *arguments).splitlines()]

    assert seqs() == [0, 1, 2, 3]
    assert seqs("--run", "r-two") == seqs("--run", "two") == [2, 3]
    assert seqs("--type", "exec") == [1]
    assert seqs("--type", "egress.") == [3]
    assert seqs("--denied") == [2]
    assert seqs("--since", "1h") == [0, 1, 2, 3]
    assert seqs("--since", "2999-01-01") == []
    assert seqs("--run", "r-two", "--denied") == [2]
    assert log.call("log", log.path, "--since", "yesterday").returncode == 64


def test_json_is_the_line_on_the_disk(log: Log) -> None:
    lines = log.path.read_text().splitlines()
    assert [line for line in lines if line.startswith('{"seq"')] == log.text("--json").splitlines()


def test_what_is_not_sound_is_not_shown(log: Log) -> None:
    data = log.path.read_bytes()
    log.path.write_bytes(data.replace(b"example.org", b"example.com"))
    done = log.call("log", log.path)
    assert done.returncode == 11
    assert "example" not in done.stdout
    assert "not sound" in done.stderr


def test_follow_waits_for_more(log: Log) -> None:
    with subprocess.Popen(
        [log.binary, "log", log.path, "--follow", "--json"], stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        seen = [following.stdout.readline() for _ in range(4)]
        # A checkpoint added to the last block, then a block of its own.
        log.record()
        log.fill(2)
        seen += [following.stdout.readline() for _ in range(2)]
        following.kill()
    assert [json.loads(line)["seq"] for line in seen] == [0, 1, 2, 3, 4, 5]


def test_key_and_checkpoint_are_for_keeping(log: Log) -> None:
    key, note = log.text("--key"), log.text("--checkpoint")
    assert key.count("+") >= 2
    assert key.startswith(note.splitlines()[0] + "+")
    assert note.splitlines()[1] == "4"


def test_a_reader_that_leaves_is_no_fault(log: Log) -> None:
    log.fill(3000)
    with subprocess.Popen(
        [log.binary, "log", log.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.readline()
        reading.stdout.close()
        deadline = time.monotonic() + 30
        while reading.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (reading.poll(), reading.stderr.read()) == (0, b"")


def test_what_is_no_log_is_an_error(log: Log, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    assert log.call("log", tmp_path / "x").returncode == 10
    assert log.call("log", tmp_path / "none").returncode == 125
    assert log.call("log", tmp_path / "x", "--key").returncode == 125


def test_in_json_a_file_that_is_not_there_is_an_error_object(log: Log, tmp_path: Path) -> None:
    for verb in ("log", "verify"):
        done = log.call(verb, "--json", tmp_path / "nosuch")
        told = json.loads(done.stdout)
        assert (done.returncode, told["ok"], told["exit"]) == (125, False, 125)
        assert "cannot be read" in told["error"]["message"]
        assert told["error"]["next_step"] == f"name the log: capsule {verb} LOG"
        done = log.call(verb, "--json", "--frobnicate")
        told = json.loads(done.stdout)
        assert (done.returncode, told["exit"]) == (64, 64)
        assert "--frobnicate" in told["error"]["message"]
        assert log.call(verb, tmp_path / "nosuch").stdout in {"", b""}


def test_follow_waits_for_a_log_that_is_not_there_yet(log: Log) -> None:
    coming = Log(log.binary, log.path.parent / "later" / "coming.log")
    with subprocess.Popen(
        [log.binary, "log", coming.path, "--follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        told = following.stderr.readline()
        coming.path.parent.mkdir()
        coming.path.touch()
        time.sleep(0.3)
        coming.fill(1)
        seen = [json.loads(following.stdout.readline())["seq"] for _ in range(2)]
        following.kill()
        rest = following.stderr.read()
    assert seen == [0, 1]
    assert "not there yet" in told
    assert rest == "", "it is told once"


@pytest.mark.parametrize("verb", [["log", "--follow"], ["log"], ["verify"], ["prove", "0"]])
@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_could_not_be_a_log_is_not_waited_for(log: Log, verb: list[str], kind: str) -> None:
    path = log.path.parent / kind
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    done = log.call(*verb, path)
    assert (done.returncode, done.stdout) == (125, "")
    assert "it is not a regular file" in done.stderr


@pytest.mark.parametrize("wish", ["--key", "--checkpoint"])
def test_what_stands_at_the_head_is_not_waited_for(log: Log, wish: str) -> None:
    assert log.call("log", log.path.parent / "none", "--follow", wish).returncode == 125
