"""Sigma, read: modifiers, conditions, correlations, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.rules.detection import predicate as p
from capsule.rules.detection.detector import Detector
from capsule.rules.detection.model import SigmaFile
from capsule.rules.detection.packs import load_pack
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.rule import RuleError

BESIDE = Path(__file__).resolve().parents[4] / "shared/data/sigma-linux"
PUBLISHED = Path(os.environ.get("CAPSULE_SIGMA_RULES") or BESIDE)
HEAD = "title: T\nid: t\nlogsource: {product: capsule, category: process}\n"


def asked(question: str, head: str = HEAD, kind: str = "process") -> p.Predicate:
    found = parse_sigma(f"{head}detection:\n  a:\n    {question}\n  condition: a\n", "t.yml")
    return found.detections[0].branches[kind]


def test_a_log_source_of_sigma_brings_its_own_conditions() -> None:
    head = "title: T\nid: t\nlogsource: {product: linux, category: file_delete}\n"
    assert asked("TargetFilename: /x", head, "file") == p.All(
        (p.Text("file.operation", ("remove",)), p.Text("file.path", ("/x",)))
    )
    both = parse_sigma(
        "title: T\nid: t\nlogsource: {product: linux, category: network_connection}\n"
        "detection: {a: {Initiated: 'true', DestinationPort: 22}, condition: a}\n",
        "t.yml",
    ).detections[0]
    assert both.branches == {"tcp": p.Number("tcp.port", "==", 22), "http": p.Number("http.port", "==", 22)}


def test_fields_that_events_never_have_are_named() -> None:
    head = "title: T\nid: t\nlogsource: {product: linux, category: process_creation}\n"
    found = parse_sigma(f"{head}detection: {{a: {{User: root}}, condition: a}}\n", "t.yml").detections[0]
    assert (found.branches, found.unrecorded) == ({}, ("User",))
    found = parse_sigma(
        f"{head}detection: {{a: {{Image: /x}}, b: {{User: root}}, condition: a and not b}}\n", "t.yml"
    ).detections[0]
    assert found.branches == {"process": p.Text("process.path", ("/x",))}


CORRELATION = """\
title: base
id: b
name: base
logsource: {product: capsule, category: http}
detection: {a: {http.method: POST}, condition: a}
---
title: many
id: c
correlation: {type: event_count, rules: [base], group-by: [http.host], timespan: 5m, condition: {gt: 2}}
"""


def test_correlations() -> None:
    found = parse_sigma(CORRELATION, "t.yml")
    rule = found.correlations[0]
    assert (rule.kind, rule.detections, rule.window_us, rule.at_least) == (
        "event_count",
        ("b",),
        300_000_000,
        3,
    )
    assert rule.group == {"b": {"http": ("http.host",)}}
    assert rule.about.line == 7
    assert not found.detections[0].alone
    generating = parse_sigma(CORRELATION.replace("{type:", "{generate: true, type:"), "t.yml")
    assert generating.detections[0].alone


def test_aliases() -> None:
    text = CORRELATION.replace(
        "group-by: [http.host]", "group-by: [who], aliases: {who: {base: program.pid}}"
    )
    assert parse_sigma(text, "t.yml").correlations[0].group == {"b": {"http": ("program.pid",)}}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("event_count", "value_sum", "correlation of type value_sum"),
        ("event_count", "value_count", "value_count without a field"),
        ("rules: [base]", "rules: [other]", "correlates other, which this file does not have"),
        ("rules: [base]", "rules: []", "correlates nothing"),
        ("rules: [base]", "rules: [base, base]", "names a rule twice"),
        ("timespan: 5m", "timespan: soon", "timespan is 'soon'"),
        ("timespan: 5m", "timespan: 30d", "timespan is '30d'"),
        ("{gt: 2}", "{lt: 2}", "fewer cannot be seen"),
        ("{gt: 2}", "{gte: 20000}", "counts to 20000"),
        ("[http.host]", "[http.nope]", "have no field http.nope"),
        ("correlation: {type", "correlation: [1]\nx: {type", "not a mapping"),
    ],
)
def test_correlations_that_are_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(RuleError, match=said) as caught:
        parse_sigma(CORRELATION.replace(old, new), "t.yml")
    assert str(caught.value).startswith("t.yml:7:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("level: low\n", "the rule has no id and no title"),
        ("title: '?!'\n", "the rule has no id and no title"),
        ("id: t\nlogsource: {product: windows, category: process_creation}\ndetection: {a: {b: c}, condition: a}", "none of our events"),
        ("id: t\ndetection: {a: {b: c}, condition: a}", r"the log source \(none\)"),
        (HEAD + "detection: {a: {process.nope: c}, condition: a}", "nobody knows the field process.nope"),
        (HEAD + "detection: {a: {process.name: c}, condition: b}", "this is not Sigma"),
        (HEAD + "detection: {a: {process.name: c}}", "this is not Sigma"),
        (HEAD + "detection: {a: {process.name|nope: c}, condition: a}", "this is not Sigma"),
        (HEAD + "detection: {a: {process.name|re: '('}, condition: a}", "this is not Sigma"),
        (HEAD + "detection: {a: {process.name|re: '(?=a)b'}, condition: a}", "invalid perl operator"),
        (HEAD + "detection: {a: {process.pid: abc}, condition: a}", "is a number, and is compared with 'abc'"),
        (HEAD + "detection: {a: {process.name|gt: 5}, condition: a}", "does not compare with a number"),
        (HEAD + "detection: {a: {process.name|fieldref: nope}, condition: a}", "nobody knows the field nope"),
        (HEAD + "level: bad\ndetection: {a: {process.name: c}, condition: a}", "level is 'bad'"),
        (HEAD + "detection: &a {a: {process.name: c}, condition: a}", "an anchor"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(RuleError, match=said):
        parse_sigma(text, "t.yml")


def test_the_place_of_a_later_document() -> None:
    with pytest.raises(RuleError) as caught:
        parse_sigma(f"{HEAD}detection: {{a: {{process.name: c}}, condition: a}}\n---\nx: &a 1\n", "t.yml")
    assert str(caught.value).startswith("t.yml:6:4: an anchor")


@pytest.mark.needs("sigma-rules")
def test_the_published_rules_for_linux_compile() -> None:
    """Every one compiles; those that can never fire need what events never have, and are few."""
    files = [parse_sigma(path.read_text(), path.name) for path in sorted(PUBLISHED.rglob("*.yml"))]
    detections = [one for file in files for one in file.detections]
    silent = [one.about.title for one in detections if not one.branches]
    assert len(detections) == len(files) >= 100
    assert len(silent) <= 2
    assert len(Detector([SigmaFile(tuple(detections))])) == len(detections)


PIECES = ["|re", "|cidr", ": null", ": []", ": {}", " and not", " 1 of them", "*", "(", ")", "|contains|all", "|windash", "|exists", "|gt", "%x%", "|expand", "\\", '"', "'", "- ", "\n  ", "99999999999999999999", "-1", "?", "\0", "\ud800", "\u2028"]  # fmt: skip


@settings(max_examples=150)
@given(st.sampled_from([text for _, text in load_pack("agents") or ()] + [CORRELATION]), st.data())
def test_a_damaged_file_is_read_or_refused(text: str, data: Any) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[at + data.draw(st.integers(0, 8)) :]
    try:
        found = parse_sigma(text, "t.yml")
    except RuleError as refusal:
        found, said = SigmaFile(()), [problem.file for problem in refusal.problems]
        assert set(said) == {"t.yml"}
    Detector([found])


def test_a_rule_without_an_id_has_that_of_its_title() -> None:
    """The specification makes the id optional; what was found has to be named alike tomorrow."""
    text = HEAD.replace("id: t\n", "").replace("title: T", "title: Shell, Spawned by a Server!")
    assert "id:" not in text
    found = parse_sigma(text + "detection: {a: {process.name: c}, condition: a}", "t.yml")
    assert [one.about.id for one in found.detections] == ["shell-spawned-by-a-server"]
