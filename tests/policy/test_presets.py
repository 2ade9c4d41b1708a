from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import capsule.policy
from capsule.policy.merge import resolve
from capsule.policy.presets import NAMES, load_preset
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.examples import run_examples
from capsule.sandbox.syscalls import groups
from tests.policy.documents import DictLoader

DIRECTORY = Path(capsule.policy.__file__).parent / "presets"


def test_every_preset_file_is_listed_and_every_name_has_a_file() -> None:
    assert {path.stem for path in DIRECTORY.iterdir()} == set(NAMES)
    assert load_preset("nothing") is None
    assert load_preset("../presets/strict") is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "variables",
    [
        Variables("/w", "/home/u", "/w"),
        Variables("/home/u/code/x", "/home/u", "/home/u/code/x/src"),
        Variables("/tmp/w", "/root", "/tmp/w"),
    ],
)
def test_every_preset_does_what_its_examples_say(name: str, variables: Variables) -> None:
    source = load_preset(name)
    assert source is not None
    policy = resolve(source, DictLoader())
    assert policy.name == name
    results = run_examples(policy, Access(compile_policy(policy), variables, policy.sections.environment))
    assert results
    assert [result.title for result in results if not result.passed] == []


def test_no_default_preset_denies_inside_what_it_lets_be_read() -> None:
    """Such a deny sends every single read to the monitor; only `secret-files` is there for that."""
    for name in set(NAMES) - {"secret-files"}:
        source = load_preset(name)
        assert source is not None
        plan = compile_policy(resolve(source, DictLoader()))
        access = Access(plan, Variables("/w", "/home/u", "/w"))
        for entry in plan.filesystem.deny:
            assert "*" not in entry.pattern
            path = access.variables.path(entry.pattern)
            without = msgspec.structs.replace(
                plan, filesystem=msgspec.structs.replace(plan.filesystem, deny=())
            )
            assert not Access(without, access.variables).path(path, "read").granted, path


def test_workspace_keeps_what_the_host_runs() -> None:
    source = load_preset("workspace")
    assert source is not None
    policy = resolve(source, DictLoader())
    access = Access(compile_policy(policy), Variables("/w", "/home/u", "/w"))
    for path in (
        ".git/hooks/pre-commit",
        ".git/config",
        ".vscode/tasks.json",
        ".mcp.json",
        ".claude/settings.json",
        ".envrc",
    ):
        assert access.path(f"/w/{path}", "read").granted
        assert access.path(f"/w/{path}", "write").kind == "protected"
    assert access.path("/w/.git/index.lock", "write").granted
    assert access.path("/w/.gitignore", "write").granted


def test_the_documentation_names_every_preset_and_group(repository: Path) -> None:
    page = (repository / "docs/formats/policy.md").read_text()
    for name in (*NAMES, *(name for name, group in groups().items() if group.kind == "grant")):
        assert f"`{name}`" in page, name


def test_an_installation_without_its_presets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgutil.get_data", lambda package, file: None)
    with pytest.raises(FileNotFoundError, match="the preset strict is missing from this installation"):
        load_preset("strict")
