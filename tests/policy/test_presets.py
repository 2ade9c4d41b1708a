from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import capsule.policy
from capsule.policy.merge import resolve
from capsule.policy.model import Source
from capsule.policy.presets import NAMES, load_preset
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.examples import run_examples
from capsule.sandbox.plan import Plan
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
        "app.code-workspace",
        ".idea/workspace.xml",
        ".zed/tasks.json",
        ".exrc",
        ".nvim.lua",
        ".dir-locals.el",
        "mise.toml",
        ".devcontainer/devcontainer.json",
        ".windsurf/mcp.json",
        ".cursor/mcp.json",
        ".husky/pre-commit",
    ):
        assert access.path(f"/w/{path}", "read").granted
        assert access.path(f"/w/{path}", "write").kind == "protected"
    assert access.path("/w/.git/index.lock", "write").granted
    assert access.path("/w/.gitignore", "write").granted
    # What packages and repositories bring along must unpack and check out below.
    for path in ("node_modules/x/.vscode/settings.json", "clone/.envrc", "deep/er/app.code-workspace"):
        assert access.path(f"/w/{path}", "write").granted


def test_the_documentation_names_every_preset_and_group(repository: Path) -> None:
    page = (repository / "docs/formats/policy.md").read_text()
    for name in (*NAMES, *(name for name, group in groups().items() if group.kind == "grant")):
        assert f"`{name}`" in page, name


def test_an_installation_without_its_presets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgutil.get_data", lambda package, file: None)
    with pytest.raises(FileNotFoundError, match="the preset strict is missing from this installation"):
        load_preset("strict")


REACHING = ("anthropic", "crates", "debian", "github", "go", "google-ai", "npm", "openai", "pypi")
PROVIDERS = ("anthropic", "google-ai", "openai")


def plan_of(*names: str) -> Plan:
    text = f"version: 1\nextends: [{', '.join(names)}]\n"
    return compile_policy(resolve(Source("/w/capsule.yaml", text.encode()), DictLoader()))


@pytest.mark.parametrize("name", REACHING)
def test_a_preset_that_reaches_hosts_adds_nothing_else_whatever_it_is_named_beside(name: str) -> None:
    alone, after, before = plan_of(name), plan_of("workspace", name), plan_of(name, "workspace")
    workspace = plan_of("workspace")
    assert alone.network.egress is not None
    for plan in (after, before):
        assert plan.network.mode == "hosts"
        assert plan.network.egress == alone.network.egress
        assert plan.filesystem == workspace.filesystem
        assert plan.syscalls == workspace.syscalls
    fs = alone.filesystem
    assert (fs.read, fs.write, fs.execute) == ((), (), ())
    assert alone.network.egress.unlisted == "deny"


@pytest.mark.parametrize("name", REACHING)
def test_no_preset_lets_anything_be_published(name: str) -> None:
    egress = plan_of(name).network.egress
    assert egress is not None
    for entry in egress.hosts:
        assert entry.methods is not None, entry.host
        assert not entry.private
        assert not entry.host.startswith("*")
        reads = set(entry.methods) <= {"GET", "HEAD"}
        assert reads or entry.credential is not None or entry.paths == ("/*/*/git-upload-pack",), entry.host


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_providers_requests_carry_the_key_that_stays_outside(name: str) -> None:
    """Under a foreign key a request is blocked: nothing is uploaded to an account of somebody else."""
    egress = plan_of(name).network.egress
    assert egress is not None
    (secret,) = egress.secrets
    assert secret.source.env == secret.env
    for entry in egress.hosts:
        assert entry.credential == secret.name
        assert entry.host in secret.to
        assert entry.ports == (443,)
        assert entry.paths is not None


def test_several_presets_at_once() -> None:
    egress = plan_of("workspace", *REACHING).network.egress
    assert egress is not None
    assert [secret.name for secret in egress.secrets] == list(PROVIDERS)


def test_cargo_is_online_with_crates_named_after_it() -> None:
    environment = plan_of("rust", "crates").environment.set
    assert "CARGO_NET_OFFLINE" not in environment
    assert environment["CARGO_HOME"].startswith("/tmp/")
