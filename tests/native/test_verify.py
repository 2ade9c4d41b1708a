"""`capsule verify`: every outcome and exit code a person can meet, and that both verifiers agree."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from capsule.audit import store
from tests.audit import forge
from tests.native.log import Log

EXPECTED: list[dict[str, Any]] = json.loads((forge.VECTORS / "expected.json").read_text())


@pytest.fixture
def log(capsule_binary: Path, tmp_path: Path) -> Log:
    log = Log(capsule_binary, tmp_path / "capsule.log")
    log.fill()
    return log


def test_a_log_of_this_machine_verifies(log: Log) -> None:
    outcome, code, report = log.verify()
    assert (outcome, code, report["log"]["entries"], report["sealed"]) == ("verified", 0, 4, 4)
    assert str(store.verify(log.path).outcome) == "verified"
    page = log.call("verify", log.path).stdout
    assert "an event never written" in page
    assert report["text"] == page.rstrip("\n"), "one call tells a program and a person"
    assert "no   rebuilt with the key" in page
    assert "\x1b" not in page


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any], capsule_binary: Path, tmp_path: Path) -> None:
    since = tmp_path / "kept"
    since.write_text(case["since"] or "")
    arguments = [
        *(["--key", case["key"]] if case["key"] else []),
        *(["--since", since] if case["since"] else []),
    ]
    log = Log(capsule_binary, forge.VECTORS / f"{case['name']}.log")
    outcome, _, report = log.verify("--no-memory", *arguments)
    assert outcome == case["outcome"], report["fault"]
    # A person's page never shows raw what a hostile log holds.
    page = log.call("verify", log.path, "--no-memory", *arguments).stdout
    assert all(char.isprintable() or char == "\n" for char in page)


def test_without_memory_or_key_nothing_is_authenticated(log: Log, tmp_path: Path) -> None:
    elsewhere = {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("DATA", "STATE")}
    outcome, code, report = log.verify(**elsewhere)
    assert (outcome, code) == ("unauthenticated", 3)
    assert [row["checked"] for row in report["attacks"]] == [True, False, False, False, False, False]
    key = log.text("--key").strip()
    assert log.verify("--key", key, **elsewhere)[:2] == ("verified", 0)
    file = tmp_path / "log.vkey"
    file.write_text(key + "\n")
    assert log.verify("--key", file, **elsewhere)[0] == "verified"
    # Verified once with the key, it is remembered: now a shorter copy is found, and no key need be given.
    log.fill()
    assert log.verify(**elsewhere)[:2] == ("verified", 0)
    data = log.path.read_bytes()
    log.path.write_bytes(data[: data.rindex(b'{"block"')])
    assert log.verify(**elsewhere)[:2] == ("rolled_back", 16)


def test_a_remembered_head_finds_the_cut(log: Log) -> None:
    data = log.path.read_bytes()
    log.path.write_bytes(data[: data.rindex(b'{"block"')])
    assert log.verify()[:2] == ("rolled_back", 16)
    log.path.write_bytes(data[:-20])
    assert log.verify()[:2] == ("truncated", 15)
    log.path.write_bytes(data[: data.rindex(b'{"note"')])
    assert log.verify()[:2] == ("truncated", 15)
    log.path.write_bytes(data + b'{"block":9')
    assert log.verify()[:2] == ("torn", 19)
    log.path.write_bytes(data[: data.rindex(b'{"note"') - 30])
    assert log.verify()[:2] == ("truncated", 15)
    log.path.write_bytes(data.replace(b'"n":2', b'"n":3'))
    assert log.verify()[:2] == ("chain_broken", 11)
    assert log.verify("--quick")[0] == "chain_broken"


def test_a_kept_checkpoint_is_compared(log: Log, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text(log.text("--checkpoint"))
    log.fill()
    assert log.verify("--since", kept)[:2] == ("verified", 0)
    assert log.verify("--since", kept, "--no-memory")[2]["attacks"][4]["checked"]
    signature = kept.read_text()
    kept.write_text(signature[:-8] + ("AAAA" if signature[-8:-4] != "AAAA" else "BBBB") + signature[-4:])
    assert log.verify("--since", kept)[:2] == ("bad_signature", 13)
    kept.write_text(forge.Signer().note(1, bytes(32), bytes(32)))
    assert log.verify("--since", kept)[:2] == ("forked", 17)
    kept.write_text("no checkpoint")
    done = log.call("verify", log.path, "--since", kept)
    assert done.returncode == 125
    assert "capsule log --checkpoint" in done.stderr


def test_strict_asks_for_a_log_without_warnings(log: Log) -> None:
    assert log.verify("--strict")[:2] == ("verified", 0)
    log.record([{"type": "gap", "run": None, "lost": 3, "why": "full"}])
    assert log.verify()[:2] == ("verified", 0)
    outcome, code, report = log.verify("--strict")
    assert (outcome, code) == ("verified", 21)
    assert report["warnings"][0]["kind"] == "gap"


def test_quick_says_that_it_was(log: Log) -> None:
    outcome, _, report = log.verify("--quick")
    assert (outcome, report["quick"], report["checkpoints"]) == ("verified", True, 1)


def test_quick_and_whole_agree_wherever_the_log_was_cut(log: Log) -> None:
    data = log.path.read_bytes()
    last = data.rindex(b'{"block"')
    note = data.rindex(b'{"note"')
    for cut in {1, 40, 400, last - 1, last, last + 1, note - 1, note, note + 1, len(data) - 1, len(data)}:
        log.path.write_bytes(data[:cut])
        for options in ((), ("--no-memory",)):
            assert log.verify("--quick", *options)[0] == log.verify(*options)[0], (cut, options)
    # The entries are the remembered ones; what is missing is the checkpoint over them.
    log.path.write_bytes(data[:-1])
    assert log.verify("--quick")[:2] == ("truncated", 15)


def test_another_log_at_this_path_is_noticed(log: Log, tmp_path: Path) -> None:
    other = Log(log.binary, tmp_path / "other.log")
    other.fill()
    os.replace(other.path, log.path)
    outcome, _, report = log.verify()
    assert outcome == "verified"
    assert report["warnings"][0]["kind"] == "replaced"


@pytest.mark.parametrize("name", ["no-such-file", "."])
def test_what_cannot_be_read_is_an_error(log: Log, name: str) -> None:
    done = log.call("verify", log.path.parent / name)
    assert (done.returncode, done.stdout) == (125, "")
    assert "cannot be read" in done.stderr


def test_a_wrong_command_line_is_an_error(log: Log) -> None:
    assert log.call("verify", "--nonsense").returncode == 64
    assert log.call("verify", log.path, "--key", "nonsense").returncode == 125
    assert log.call("verify", "--help").stdout.startswith("usage: capsule verify")


@pytest.mark.parametrize("size", [90_000, 200_000, 300_000, 900_000])
def test_a_large_file_that_is_no_proof_and_no_checkpoint_is_refused_in_words(log: Log, size: int) -> None:
    large = log.path.with_name("large")
    large.write_bytes(b"a" * size)
    for words, what in ((("--proof", large), "proof"), ((log.path, "--since", large), "checkpoint")):
        done = log.call("verify", *words)
        assert done.returncode == 125, done.stderr
        assert f"is not a {what}" in done.stderr
