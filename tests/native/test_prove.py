"""`capsule prove`: a proof that convinces somebody who has the key and nothing else, of one entry and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsule.audit.checkpoint import Verdict, parse_bundle, parse_vkey
from tests.native.log import Log


@pytest.fixture
def log(capsule_binary: Path, tmp_path: Path) -> Log:
    log = Log(capsule_binary, tmp_path / "capsule.log")
    log.fill(20)
    return log


def check(log: Log, *arguments: str | Path, **variables: str) -> tuple[str, int]:
    done = log.call("verify", "--json", *arguments, variables=variables)
    report = json.loads(done.stdout)
    assert report["exit"] == done.returncode
    return report["outcome"], report["exit"]


def test_every_entry_can_be_proved_and_both_verifiers_agree(log: Log, tmp_path: Path) -> None:
    key, file = log.text("--key").strip(), tmp_path / "proof"
    nobody = {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("DATA", "STATE")}
    vkey = parse_vkey(key)
    assert vkey is not None
    for seq in (0, 1, 7, 20):
        assert log.call("prove", str(seq), log.path, "--out", file).returncode == 0
        assert check(log, "--proof", file, "--key", key, **nobody) == ("verified", 0)
        bundle = parse_bundle(file.read_text())
        assert bundle is not None
        assert bundle.leads_from(bundle.entry)
        assert json.loads(bundle.entry)["seq"] == seq
        assert bundle.note.verify(vkey) is Verdict.GOOD


def test_a_proof_is_of_its_entry_only(log: Log, tmp_path: Path) -> None:
    file, entry = tmp_path / "proof", tmp_path / "entry"
    file.write_text(log.call("prove", "5", log.path).stdout)
    lines = log.text("--json").splitlines()
    entry.write_text(lines[5] + "\n")
    assert check(log, "--proof", file, "--entry", entry) == ("verified", 0)
    entry.write_text(lines[6] + "\n")
    assert check(log, "--proof", file, "--entry", entry) == ("tree_broken", 12)
    page = log.call("verify", "--proof", file).stdout
    assert page.startswith("verified  seq 5 of 21")


def test_whose_key_matters(log: Log, tmp_path: Path, capsule_binary: Path) -> None:
    file = tmp_path / "proof"
    file.write_text(log.call("prove", "5", log.path).stdout)
    nobody = {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("DATA", "STATE")}
    assert check(log, "--proof", file, **nobody) == ("unauthenticated", 3)
    other = Log(capsule_binary, tmp_path / "other.log")
    other.fill()
    assert check(log, "--proof", file, "--key", other.text("--key").strip()) == ("unknown_key", 14)
    text = file.read_text()
    file.write_text(text[:-8] + ("AAAA" if text[-8:-4] != "AAAA" else "BBBB") + text[-4:])
    assert check(log, "--proof", file) == ("bad_signature", 13)


def test_what_cannot_be_proved_is_said(log: Log) -> None:
    done = log.call("prove", "21", log.path)
    assert (done.returncode, done.stdout) == (20, "")
    assert "the log has 21" in done.stderr
    assert log.call("prove", "x", log.path).returncode == 64
    data = log.path.read_bytes()
    log.path.write_bytes(data.replace(b'"n":3', b'"n":4'))
    assert log.call("prove", "1", log.path).returncode == 11


def test_json_for_a_program(log: Log, tmp_path: Path) -> None:
    bundle = log.call("prove", "5", log.path).stdout
    assert json.loads(log.call("prove", "5", log.path, "--json").stdout) == {"entry": 5, "proof": bundle}
    file = tmp_path / "proof"
    written = log.call("prove", "--json", "5", log.path, "--out", file).stdout
    assert (json.loads(written), file.read_text()) == ({"entry": 5, "proof": None}, bundle)
    for words, exit_code, what in (
        (("9999", log.path), 20, "entry 9999 does not exist"),
        (("x", log.path), 64, "is not the seq of an entry"),
        (("5", tmp_path / "absent"), 125, "cannot be read"),
        (("5", log.path, "--out", tmp_path), 125, "cannot be written"),
    ):
        done = log.call("prove", *map(str, words), "--json")
        answer = json.loads(done.stdout)
        assert (answer["ok"], answer["exit"], done.returncode) == (False, exit_code, exit_code)
        assert what in answer["error"]["message"]
        assert what in done.stderr
