from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capsule.errors import PolicyError
from capsule.policy.document import read_document
from capsule.policy.model import Example, NameEntry, Origin
from capsule.policy.parser import EXAMPLE_KINDS, TOP_KEYS, is_preset_name, parse, parse_address
from capsule.policy.paths import PathError
from tests.policy.documents import documents, places, resolve_text, to_yaml


def problems(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse(text.encode(), "capsule.yaml")
    return caught.value


def check_places(error: PolicyError) -> None:
    assert error.problems
    assert all(p.line >= 1 and p.column >= 1 and p.file == "capsule.yaml" for p in error.problems)


def test_a_whole_document() -> None:
    document = parse(
        b"""version: 1
name: web
extends: [workspace, ./team.yaml]
tools:
  fetch:
    audit: all
examples:
  allow:
    - read: ./a
    - connect: tcp:127.0.0.1:5432
  deny:
    - connect: unix:/run/x
    - syscall: ptrace
    - env: HOME
""",
        "capsule.yaml",
    )
    assert document.name is not None
    assert document.name.value == "web"
    assert [entry.name for entry in document.extends] == ["workspace", "./team.yaml"]
    assert document.extends[1].origin == Origin("capsule.yaml", 3, 22)
    assert document.tools["fetch"].value.audit is not None
    assert document.tools["fetch"].origin.line == 5
    assert document.examples == (
        Example("read", "${workspace}/a", True, Origin("capsule.yaml", 9, 13)),
        Example("connect", "tcp:127.0.0.1:5432", True, Origin("capsule.yaml", 10, 16)),
        Example("connect", "unix:/run/x", False, Origin("capsule.yaml", 12, 16)),
        Example("syscall", "ptrace", False, Origin("capsule.yaml", 13, 16)),
        Example("env", "HOME", False, Origin("capsule.yaml", 14, 12)),
    )


def test_the_example_of_the_documentation_is_a_policy(repository: Path) -> None:
    page = (repository / "docs/formats/policy.md").read_text()
    text = page.split("```yaml\n")[1].split("```")[0]
    team = "version: 1\nenv: {set: {DEBUG: '1'}}\nfilesystem: {write: [./data]}"
    policy = resolve_text(text, {"./team.yaml": team})
    assert policy.name == "web"
    assert "DEBUG" not in policy.sections.environment.set
    assert {example.kind for example in policy.examples} == set(EXAMPLE_KINDS)
    assert {key.text for key, _ in read_document(text.encode(), "x").entries} == set(TOP_KEYS)


def test_the_smallest_document_says_nothing() -> None:
    document = parse(b"version: 1", "x")
    assert (document.name, document.extends, document.tools, document.examples) == (None, (), {}, ())


def test_several_problems_are_told_at_once_in_order() -> None:
    error = problems("verison: 1\nnaem: x\nfilesystem:\n  raed: [a]\n  read: x\naudit: off\n")
    assert places(error.problems) == [(1, 1), (1, 1), (2, 1), (4, 3), (5, 9), (6, 8)]
    assert error.exit_code == 2
    assert "these 6 places" in error.next_step
    lines = str(error).splitlines()
    assert lines[0].startswith("capsule.yaml:1:1: ")
    assert any("did you mean 'version'?" in line for line in lines)
    assert any("unknown key 'raed' in filesystem; expected one of read, write" in line for line in lines)
    assert any("filesystem.read is a single value; expected a list; write [x]" in line for line in lines)


def test_at_most_fifty_problems_are_told() -> None:
    text = "version: 1\nfilesystem:\n  read: [" + ", ".join(["'..'"] * 80) + "]\n"
    assert len(problems(text).problems) == 50


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x", "has no 'version'; expected 'version: 1'"),
        ("version: 2", "version is '2'; expected 1; this capsule reads version 1 only"),
        ("version: '1'", "version is '1'"),
        ("version: 01", "version is '01'"),
        ("version: [1]", "version is not a number"),
        ("version: 1\nname: a b", "name is 'a b'"),
        ("version: 1\nname: 12", "name is 12, which is not text"),
        ("version: 1\nname: [x]", "name is a list"),
        ("version: 1\nname:", "name is nothing"),
        ("version: 1\nextends: workspace", "extends is a single value; expected a list; write [workspace]"),
        ("version: 1\nextends: [workspace, workspace]", "names 'workspace' twice"),
        (
            "version: 1\nextends: [./team]",
            "'./team' in extends; expected a preset's name or a file that ends in .yaml",
        ),
        ("version: 1\nextends: [a//b.yaml]", "empty segment"),
        ("version: 1\nextends: [a/../b.yaml]", "'..' segment"),
        ("version: 1\nextends: [no]", "is no, which is not text"),
        ("version: 1\ntools: [x]", "tools is not a mapping"),
        ("version: 1\ntools: {'a b': {}}", "'a b' as a tool's name"),
        ("version: 1\ntools: {a: {extends: [x]}}", "unknown key 'extends' in tools.a"),
        ("version: 1\ntools: {a: x}", "tools.a is a single value; expected a mapping"),
        ("version: 1\nexamples: {maybe: []}", "unknown key 'maybe' in examples"),
        ("version: 1\nexamples: {allow: [x]}", "an example is a single value"),
        ("version: 1\nexamples: {allow: [{}]}", "exactly one thing"),
        ("version: 1\nexamples: {allow: [{read: a, write: b}]}", "exactly one thing"),
        ("version: 1\nexamples: {allow: [{read: '*'}]}", "glob"),
        ("version: 1\nexamples: {allow: [{env: 'A-B'}]}", "an example's env is 'A-B'"),
        ("version: 1\nexamples: {allow: [{env: []}]}", "an example's env is a list"),
        ("version: 1\nexamples: {allow: [{connect: localhost}]}", "expected tcp:HOST:PORT or unix:/PATH"),
        ("version: 1\n<<: {name: x}", "unknown key '<<'"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    assert says in str(problems(text))


@pytest.mark.parametrize(
    "entry", ["./team.yaml", "../team.yaml", "../../a/b.yml", "/etc/capsule/x.yaml", "~/x.yaml", "a.yaml"]
)
def test_files_may_be_extended_from_anywhere(entry: str) -> None:
    document = parse(f"version: 1\nextends: ['{entry}']".encode(), "x")
    assert document.extends == (NameEntry(entry, Origin("x", 2, 11)),)


def test_preset_names_are_plain_words() -> None:
    assert is_preset_name("secret-files")
    assert not any(is_preset_name(text) for text in ("", "a.yaml", "./a", "A", "-a", "a b", "a\n", "a" * 65))


@pytest.mark.parametrize(
    "text", ["tcp:127.0.0.1:5432", "tcp:example.org:443", "tcp:[::1]:80", "unix:/run/x.sock"]
)
def test_addresses(text: str) -> None:
    assert parse_address(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "tcp:x", "tcp::80", "tcp:x:0", "tcp:x:65536", "udp:x:53", "unix:", "unix:/a/../b", "tcp:a b:80"],
)
def test_what_is_not_an_address(text: str) -> None:
    with pytest.raises(PathError):
        parse_address(text)


def test_a_unix_address_takes_the_home_sign() -> None:
    assert parse_address("unix:~/x.sock") == "unix:${home}/x.sock"


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_every_generated_document_is_accepted(document: dict[str, object]) -> None:
    parsed = parse(to_yaml(document), "capsule.yaml")
    assert parsed == parse(to_yaml(document), "capsule.yaml")
    assert (parsed.name is not None) == ("name" in document)


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(documents, st.data())
def test_a_damaged_document_is_accepted_or_refused_with_a_place(
    document: dict[str, object], data: st.DataObject
) -> None:
    """Bytes are cut, doubled, swapped: nothing but `PolicyError` comes out, and every problem has a place."""
    text = to_yaml(document)
    at = data.draw(st.integers(0, len(text)))
    until = data.draw(st.integers(at, min(len(text), at + 12)))
    noise = data.draw(
        st.sampled_from(
            [b"", b"\n", b"{", b"]", b": ", b"&a ", b"*a", b"!x ", b"\x00", b"\xff", b"- ", b'"', b"no"]
        )
    )
    damaged = text[:at] + noise + text[until:]
    try:
        parse(damaged, "capsule.yaml")
    except PolicyError as error:
        check_places(error)


@settings(max_examples=120)
@given(st.text("versionfil:ytmrad[]{}\"'\n -#&*!|>?%@,.~/$0123456789", max_size=120))
def test_noise_after_the_version_never_raises_anything_else(noise: str) -> None:
    try:
        parse(f"version: 1\n{noise}".encode(), "capsule.yaml")
    except PolicyError as error:
        check_places(error)
