from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsule.cli.rules.sources import load
from capsule.errors import PolicyError
from tests.cli.rules.written import RULES

SIGMA = "title: T\nid: t\nlogsource: {product: capsule, category: dns}\ndetection: {a: {dns.name: x}, condition: a}\n"


def test_what_a_file_is_is_seen_in_it(workspace: Path, home: Path) -> None:
    (workspace / "rules.yaml").write_text(RULES)
    (workspace / "one.yml").write_text(SIGMA + "---\n" + SIGMA.replace("id: t", "id: u"))
    found = load(["rules.yaml", "one.yml", "agents"])
    assert len(found.rules) == 2
    assert {"t", "u", "agents-git-push"} <= {one.about.id for one in found.detections.detections}


def test_a_policy_names_rules_and_packs(workspace: Path, home: Path) -> None:
    (workspace / "rules.yaml").write_text(RULES)
    (workspace / "sigma").mkdir()
    (workspace / "sigma/a.yml").write_text(SIGMA)
    (workspace / "capsule.yaml").write_text("version: 1\nrules: [./rules.yaml]\ndetect: [./sigma]\n")
    found = load(["capsule.yaml"])
    assert (len(found.rules), [one.about.id for one in found.detections.detections]) == (2, ["t"])


def test_what_is_refused(workspace: Path, home: Path) -> None:
    (workspace / "empty").mkdir()
    with pytest.raises(PolicyError, match="0 files"):
        load(["empty"])
    os.mkfifo(workspace / "fifo.yaml")
    with pytest.raises(PolicyError, match="not a regular file"):
        load(["./fifo.yaml"])
    with pytest.raises(PolicyError, match="cannot be read"):
        load(["./nope.yaml"])
