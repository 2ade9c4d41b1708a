from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from capsule.errors import PolicyError
from capsule.policy.merge import MAX_DOCUMENTS, MAX_LEVELS, merge_sections, resolve, with_tool
from capsule.policy.model import Sections, Source
from capsule.policy.parser import parse
from capsule.policy.presets import load_preset
from tests.policy.documents import TOP, DictLoader, documents, resolve_text, to_yaml


def refused(text: str, files: dict[str, str] | None = None) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        resolve_text(text, files)
    return caught.value


def read_paths(text: str, files: dict[str, str] | None = None) -> list[str]:
    return [entry.path for entry in resolve_text(text, files).sections.filesystem.read.add]


def test_lists_append_in_the_order_of_extends() -> None:
    files = {
        "./a.yaml": "version: 1\nfilesystem: {read: [/a]}",
        "./b.yaml": "version: 1\nextends: [./c.yaml]\nfilesystem: {read: [/b]}",
        "./c.yaml": "version: 1\nfilesystem: {read: [/c]}",
    }
    assert read_paths("version: 1\nextends: [./a.yaml, ./b.yaml]\nfilesystem: {read: [/top]}", files) == [
        "/a",
        "/c",
        "/b",
        "/top",
    ]


def test_a_document_reached_twice_counts_once() -> None:
    files = {
        "./a.yaml": "version: 1\nextends: [./c.yaml]\nfilesystem: {read: [/a]}",
        "./b.yaml": "version: 1\nextends: [./c.yaml]\nfilesystem: {read: [/b]}",
        "./c.yaml": "version: 1\nfilesystem: {read: [/c]}",
    }
    policy = resolve_text("version: 1\nextends: [./a.yaml, ./b.yaml]", files)
    assert [entry.path for entry in policy.sections.filesystem.read.add] == ["/c", "/a", "/b"]
    assert [source.path for source in policy.sources] == [TOP, "/w/b.yaml", "/w/a.yaml", "/w/c.yaml"]


def test_of_settings_the_last_one_stands() -> None:
    files = {
        "./a.yaml": "version: 1\nname: a\naudit: all\nlimits: {cpu: 1s, disk: 1B}\nenv: {set: {A: a, B: b, C: c}}\n"
        "process: {programs: [/a]}\nnetwork: {mode: none}"
    }
    policy = resolve_text(
        "version: 1\nextends: [./a.yaml]\naudit: run\nlimits: {cpu: none}\nenv: {set: {B: bb, C: null}}\nprocess: {programs: any}",  # noqa: E501
        files,
    )
    sections = policy.sections
    assert sections.audit is not None
    assert sections.audit.value == "run"
    assert sections.limits["cpu"].value is None
    assert sections.limits["disk"].value == 1
    assert {name: setting.value for name, setting in sections.environment.set.items()} == {
        "A": "a",
        "B": "bb",
    }
    assert sections.process.restricted is not None
    assert not sections.process.restricted.value
    assert sections.process.programs.add == ()
    assert sections.network.mode is not None
    assert policy.name == "capsule"  # a name belongs to its own document


def test_lists_can_be_replaced_and_shortened() -> None:
    files = {
        "./a.yaml": "version: 1\nfilesystem: {read: [/a, ~/b, ./c], deny: ['**/x']}\nnetwork: {ports: [80, 81]}"
    }
    text = "version: 1\nextends: [./a.yaml]\nfilesystem: {read: {replace: [/z]}}"
    assert read_paths(text, files) == ["/z"]
    assert read_paths("version: 1\nextends: [./a.yaml]\nfilesystem: {read: {replace: []}}", files) == []
    text = "version: 1\nextends: [./a.yaml]\nfilesystem: {read: {remove: [~/b], add: [/d]}, deny: {remove: ['**/x']}}\nnetwork: {ports: {remove: [80]}}"  # noqa: E501
    policy = resolve_text(text, files)
    assert [entry.path for entry in policy.sections.filesystem.read.add] == ["/a", "${workspace}/c", "/d"]
    assert policy.sections.filesystem.deny.add == ()
    assert [port.name for port in policy.sections.network.ports.add] == ["81"]


def test_removing_what_was_not_inherited_is_refused() -> None:
    files = {"./a.yaml": "version: 1\nfilesystem: {read: [~/data]}"}
    error = refused("version: 1\nextends: [./a.yaml]\nfilesystem: {read: {remove: [~/dat]}}", files)
    assert "3:30: '~/dat' is removed, but nothing before it added it" in str(error)
    assert "did you mean '~/data'?" in str(error)
    assert "is removed" in str(refused("version: 1\nrequire: {remove: [seccomp]}"))
    # What is added beside a removal does not count as inherited.
    assert "is removed" in str(refused("version: 1\nfilesystem: {read: {remove: [/a], add: [/a]}}"))


def test_tools_add_to_the_policy_and_merge_with_inherited_tools() -> None:
    files = {
        "./a.yaml": "version: 1\nfilesystem: {read: [/a]}\ntools: {fetch: {filesystem: {read: [/f]}}, old: {audit: all}}"  # noqa: E501
    }
    policy = resolve_text(
        "version: 1\nextends: [./a.yaml]\ntools: {fetch: {filesystem: {read: [/g]}, audit: all}}", files
    )
    assert sorted(policy.tools) == ["fetch", "old"]
    tool = with_tool(policy, "fetch")
    assert [entry.path for entry in tool.sections.filesystem.read.add] == ["/a", "/f", "/g"]
    assert tool.sections.audit is not None
    assert [entry.path for entry in policy.sections.filesystem.read.add] == ["/a"]


def test_unknown_tools_and_tools_that_do_not_fit() -> None:
    policy = resolve_text("version: 1\ntools: {fetch: {}}")
    with pytest.raises(PolicyError, match="no tool 'fecth'; expected one of fetch; did you mean 'fetch'"):
        with_tool(policy, "fecth")
    with pytest.raises(PolicyError, match="a policy with a 'tools' section"):
        with_tool(resolve_text("version: 1"), "x")
    assert "is removed" in str(refused("version: 1\ntools: {t: {filesystem: {read: {remove: [/a]}}}}"))


def test_circles_depth_and_number_are_capped() -> None:
    circle = {"./a.yaml": "version: 1\nextends: [./b.yaml]", "./b.yaml": "version: 1\nextends: [./a.yaml]"}
    assert "extends goes in a circle: /w/a.yaml → /w/b.yaml → /w/a.yaml" in str(
        refused("version: 1\nextends: [./a.yaml]", circle)
    )
    assert "in a circle" in str(
        refused("version: 1\nextends: [./capsule.yaml]", {"./capsule.yaml": "version: 1"})
    )
    deep = {f"./{i}.yaml": f"version: 1\nextends: [./{i + 1}.yaml]" for i in range(20)}
    assert f"more than {MAX_LEVELS} levels deep" in str(refused("version: 1\nextends: [./0.yaml]", deep))
    many = {f"./{i}.yaml": "version: 1" for i in range(40)}
    listed = ", ".join(f"./{i}.yaml" for i in range(40))
    assert f"more than {MAX_DOCUMENTS} files" in str(refused(f"version: 1\nextends: [{listed}]", many))


def test_missing_presets_and_files_are_named_at_their_place() -> None:
    error = refused("version: 1\nextends: [workspce]")
    assert str(error).startswith(f"{TOP}:2:11: there is no preset 'workspce'")
    assert "did you mean 'workspace'?" in str(error)
    assert f"{TOP}:2:11: the file ./x.yaml cannot be read: not there; check the path" in str(
        refused("version: 1\nextends: [./x.yaml]")
    )


def test_a_problem_in_an_extended_file_is_told_with_that_file() -> None:
    assert str(refused("version: 1\nextends: [./a.yaml]", {"./a.yaml": "version: 3"})).startswith(
        "/w/a.yaml:1:10: "
    )


def test_a_preset_extends_presets_only(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("preset:odd", b"version: 1\nextends: [./a.yaml]")
    with pytest.raises(PolicyError, match="a preset extends the file"):
        resolve(source, DictLoader({"./a.yaml": "version: 1"}))


def test_the_name_and_the_examples_are_the_top_documents() -> None:
    policy = resolve_text("version: 1\nname: mine\nextends: [workspace]\nexamples: {allow: [{read: ./a}]}")
    assert policy.name == "mine"
    assert policy.origin.line == 2
    assert len(policy.examples) == 1
    preset = load_preset("workspace")
    assert preset is not None
    assert resolve(preset, DictLoader()).name == "workspace"
    assert resolve(Source("preset:.", b"version: 1"), DictLoader()).name == "policy"


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(documents, documents, documents)
def test_merging_is_associative_and_nothing_is_neutral(
    one: dict[str, object], two: dict[str, object], three: dict[str, object]
) -> None:
    a, b, c = (parse(to_yaml(document), str(i)).sections for i, document in enumerate((one, two, three)))
    assert merge_sections(merge_sections(a, b), c) == merge_sections(a, merge_sections(b, c))
    assert merge_sections(a, Sections()) == a
    assert merge_sections(Sections(), a) == a


def test_merging_is_associative_with_removals() -> None:
    texts = (
        b"version: 1\nfilesystem: {read: [/a, /b]}",
        b"version: 1\nfilesystem: {read: {remove: [/a], add: [/c]}}",
        b"version: 1\nfilesystem: {read: {remove: [/b, /c], add: [/a]}}",
    )
    a, b, c = (parse(text, "p").sections for text in texts)
    left = merge_sections(merge_sections(a, b), c)
    assert left == merge_sections(a, merge_sections(b, c))
    assert [entry.path for entry in left.filesystem.read.add] == ["/a"]
    assert left.filesystem.read.remove == ()
