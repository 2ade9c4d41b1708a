from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cli.invoke import invoke


def certificate(*, signs: bool, issuer: str = "leaf") -> bytes:
    """One in PEM, of `CN=leaf`."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name("leaf"))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signs, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def test_a_good_policy(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nname: web\nextends: [workspace]\ntools: {t: {audit: all}}\n"
    )
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("web: good (4 sources, blake3:")
    value = json.loads(invoke(capsys, "policy", "check", "capsule.yaml", "--json").out)
    assert (value["ok"], value["problems"], value["name"]) == (True, [], "web")


def test_a_policy_that_grants_nothing_is_pointed_out(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\n")
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 0
    assert "nothing may be executed" in answer.out
    assert "extends: [workspace]" in answer.out
    value = json.loads(invoke(capsys, "policy", "check", "capsule.yaml", "--json").out)
    assert len(value["warnings"]) == 1


def test_a_program_without_a_path_is_a_file_of_the_workspace_and_most_likely_a_mistake(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nprocess:\n  programs: [sh, nosuchprogram, /usr/bin/env]\n"
    )
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 0
    assert "note: capsule.yaml:4: process.programs: 'sh' is the file ./sh of the workspace" in answer.out
    assert f"did you mean {shutil.which('sh')}?" in answer.out
    assert "name a program by its absolute path" in answer.out
    assert "env" not in answer.out
    (workspace / "sh").write_text("")
    assert "./sh" not in invoke(capsys, "policy", "check", "capsule.yaml").out


def test_problems_are_told_with_their_place(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nfilesytem: {}\nsyscalls: {allow: [opennat]}\n")
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert "capsule: capsule.yaml:2:1: unknown key 'filesytem'" in answer.err
    assert "did you mean 'filesystem'?" in answer.err
    value = json.loads(invoke(capsys, "policy", "check", "capsule.yaml", "--json").out)
    assert not value["ok"]
    assert value["problems"][0]["nearest"] == "filesystem"


def test_tools_are_checked_too(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\ntools: {t: {syscalls: {allow: [opennat]}}}\n")
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 2
    assert "unknown system call 'opennat'" in answer.err


def test_what_gives_away_more_than_it_seems_to_is_noted(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork: {hosts: [github.com]}\n"
    )
    answer = invoke(capsys, "policy", "check")
    assert answer.code == 0
    assert (
        "note: capsule.yaml:3: anybody can publish at github.com: this lets data out to strangers;"
        in answer.out
    )
    (warning,) = json.loads(invoke(capsys, "policy", "check", "--json").out)["warnings"]
    assert "anybody can publish" in warning
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\ntools: {t: {network: {mode: open}}}\n"
    )
    assert "note: capsule.yaml:3: network.mode is 'open'" in invoke(capsys, "policy", "check").out


def test_rules_that_do_not_compile_make_a_policy_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [workspace]\nrules: [./rules.yaml]\n")
    answer = invoke(capsys, "policy", "check")
    assert answer.code == 2
    assert "rules.yaml" in answer.err
    (workspace / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {id: a, on: http, when: 'http.hots', action: block}\n"
    )
    answer = invoke(capsys, "policy", "check")
    assert answer.code == 2
    assert "capsule: rules.yaml:3:" in answer.err
    (workspace / "rules.yaml").write_text(
        "version: 1\nrules:\n  - {id: a, on: dns, when: 'true', action: block}\n"
    )
    assert invoke(capsys, "policy", "check").code == 0


def test_authorities_that_are_not_there_are_named(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork: {hosts: [a.example], authorities: [./ours.pem]}\n"
    )
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 0
    assert "capsule.yaml:3: the authorities of ours.pem do not exist here" in answer.out
    (workspace / "ours.pem").write_bytes(certificate(signs=True))
    assert "ours.pem" not in invoke(capsys, "policy", "check", "capsule.yaml").out, "the control"


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (b"x", "ours.pem holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"x" * (1 << 20) + b"x", "is over 1048576 bytes long"),
        (
            None,
            "that is no authority's: 'CN=leaf' was signed by another, and may sign none itself (CA:FALSE)",
        ),
    ],
    ids=["none", "broken", "long", "leaf"],
)
def test_authorities_through_which_nobody_can_be_trusted_are_refused_with_their_place(
    capsys: pytest.CaptureFixture[str], workspace: Path, pem: bytes | None, why: str
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork:\n  hosts: [a.example]\n  authorities: [./ours.pem]\n"
    )
    (workspace / "ours.pem").write_bytes(pem if pem is not None else certificate(signs=False, issuer="root"))
    answer = invoke(capsys, "policy", "check", "capsule.yaml")
    assert answer.code == 2
    assert "capsule.yaml:5:17: network.authorities: ours.pem" in answer.err
    assert why in answer.err
    assert "expected certificates of authorities; give the authority's certificate in PEM" in answer.err
    (problem,) = json.loads(invoke(capsys, "policy", "check", "capsule.yaml", "--json").out)["problems"]
    assert (problem["line"], problem["column"]) == (5, 17)


def test_a_leaf_beside_its_authority_does_no_harm(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork: {hosts: [a.example], authorities: [./ours.pem]}\n"
    )
    leaf, authority = certificate(signs=False, issuer="root"), certificate(signs=True)
    (workspace / "ours.pem").write_bytes(leaf + authority)
    assert invoke(capsys, "policy", "check", "capsule.yaml").code == 0
    (workspace / "ours.pem").write_bytes(leaf + leaf)
    assert (
        "certificate number 1 that is no authority's" in invoke(capsys, "policy", "check", "capsule.yaml").err
    )


def test_a_server_s_own_certificate_is_trusted_as_itself(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nnetwork: {hosts: [a.example], authorities: [./ours.pem]}\n"
    )
    (workspace / "ours.pem").write_bytes(certificate(signs=False, issuer="leaf"))
    assert invoke(capsys, "policy", "check", "capsule.yaml").code == 0


def test_what_comes_to_too_long_a_plan_is_a_fault_of_the_policy(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    for file, extends in (("capsule", "[./more.yaml]"), ("more", "[]")):
        for_each = "".join(f"    - {file}-a-name-of-some-length-{number}\n" for number in range(3000))
        (workspace / f"{file}.yaml").write_text(
            f"version: 1\nextends: {extends}\nfilesystem:\n  deny:\n{for_each}  protect:\n{for_each}"
        )
    answer = invoke(capsys, "policy", "check")
    assert (answer.code, answer.out) == (2, "")
    assert "capsule.yaml:1:1: all that this says comes to a plan of" in answer.err
    assert "deny with patterns" in answer.err
