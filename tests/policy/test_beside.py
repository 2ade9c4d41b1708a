from __future__ import annotations

from pathlib import Path

import pytest

from capsule.cli.files import load_policy
from capsule.cli.rules.sources import load
from capsule.errors import PolicyError
from capsule.policy.beside import beside_detections, beside_paths
from capsule.sandbox.access import Variables
from capsule.sandbox.compiler import compile_policy

TEAM = "version: 1\nrules: [./rules.yaml, /etc/r.yaml]\ndetect: [agents, ./sigma]\n"
RULES = "version: 1\nrules:\n  - {{id: {}, on: http, when: 'true', action: block}}\n"


def team(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "team.yaml").write_text(TEAM + "network: {authorities: [./ca.pem]}\n")


def test_what_decides_lies_beside_the_file_that_names_it(workspace: Path) -> None:
    team(workspace / "policies")
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [./policies/team.yaml]\nrules: [./rules.yaml]\n"
    )
    policy = load_policy("capsule.yaml")
    there = str(workspace.resolve() / "policies")
    assert [entry.path for entry in beside_paths(policy, policy.sections.rules.add)] == [
        f"{there}/rules.yaml", "/etc/r.yaml", "${workspace}/rules.yaml",
    ]  # fmt: skip
    assert [entry.name for entry in beside_detections(policy, policy.sections.detect.add)] == [
        "agents", f"{there}/sigma",
    ]  # fmt: skip
    plan = compile_policy(policy)
    assert plan.network.egress is not None
    assert [rule.path for rule in plan.network.egress.rules] == [
        f"{there}/rules.yaml", "/etc/r.yaml", "${workspace}/rules.yaml",
    ]  # fmt: skip
    assert [grant.path for grant in plan.network.egress.authorities] == [f"{there}/ca.pem"]
    # What egress relies on is kept from the command, where it is.
    kept = {entry.pattern for entry in plan.filesystem.protect}
    assert {f"{there}/rules.yaml", f"{there}/sigma", f"{there}/ca.pem"} <= kept


@pytest.mark.needs("egress")
def test_a_project_has_no_say_in_the_rules_of_its_team(workspace: Path, home: Path) -> None:
    (home / "team").mkdir()
    (home / "team/team.yaml").write_text("version: 1\nrules: [./rules.yaml]\n")
    (home / "team/rules.yaml").write_text(RULES.format("theirs"))
    (workspace / "rules.yaml").write_text(RULES.format("planted"))
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [~/team/team.yaml]\n")
    assert [one.rule.id for one in load(["capsule.yaml"]).rules.rules] == ["theirs"]
    (home / "team/rules.yaml").unlink()
    with pytest.raises(
        PolicyError, match=r"team.yaml:2:9: the file .*/team/rules.yaml cannot be read.*beside the file"
    ):
        load(["capsule.yaml"])


def test_a_linked_policy_brings_its_rules_from_where_it_is_kept(workspace: Path, home: Path) -> None:
    team(home / "kept")
    (workspace / "capsule.yaml").symlink_to(home / "kept/team.yaml")
    policy = load_policy("capsule.yaml")
    first = beside_paths(policy, policy.sections.rules.add)[0]
    assert first.path == str(home.resolve() / "kept/rules.yaml")


def test_grants_stay_about_the_workspace(workspace: Path) -> None:
    (workspace / "policies").mkdir()
    (workspace / "policies/team.yaml").write_text("version: 1\nfilesystem: {write: [./out]}\n")
    (workspace / "capsule.yaml").write_text("version: 1\nextends: [./policies/team.yaml]\n")
    assert [grant.path for grant in compile_policy(load_policy("capsule.yaml")).filesystem.write] == [
        "${workspace}/out"
    ]


def test_one_named_as_written_can_be_removed(workspace: Path) -> None:
    team(workspace / "policies")
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [./policies/team.yaml]\nrules: {remove: [./rules.yaml]}\n"
    )
    policy = load_policy("capsule.yaml")
    assert [entry.path for entry in beside_paths(policy, policy.sections.rules.add)] == ["/etc/r.yaml"]


def test_a_directory_that_would_be_a_pattern_is_a_name(workspace: Path, home: Path) -> None:
    team(home / "k[e]pt")
    (workspace / "capsule.yaml").symlink_to(home / "k[e]pt/team.yaml")
    plan = compile_policy(load_policy("capsule.yaml"))
    assert plan.network.egress is not None
    where = Variables(str(workspace), str(home), str(workspace))
    there = str(home.resolve() / "k[e]pt")
    assert where.path(plan.network.egress.rules[0].path) == f"{there}/rules.yaml"
    kept = [where.pattern(entry.pattern) for entry in plan.filesystem.protect]
    for name in ("rules.yaml", "sigma", "ca.pem"):
        assert any(pattern.covers(f"{there}/{name}") for pattern in kept)
        assert not any(pattern.covers(f"{home.resolve()}/kept/{name}") for pattern in kept)


def test_a_directory_that_no_path_can_name_is_refused(workspace: Path, home: Path) -> None:
    team(home / "k\\ept")
    (workspace / "capsule.yaml").symlink_to(home / "k\\ept/team.yaml")
    with pytest.raises(
        PolicyError, match=r"capsule.yaml:2:9: this lies beside the file that names it, and there"
    ):
        compile_policy(load_policy("capsule.yaml"))
