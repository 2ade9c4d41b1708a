"""Sigma conditions as predicates."""

from __future__ import annotations

import sys

import pytest

from capsule.rules.detection import predicate as p
from capsule.rules.detection.predicate import ANY, ONE
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.detection.translation import DetectionUnavailableError
from capsule.rules.rule import RuleError

HEAD = "title: T\nid: t\nlogsource: {product: capsule, category: process}\n"


def asked(question: str) -> p.Predicate:
    found = parse_sigma(f"{HEAD}detection:\n  a:\n    {question}\n  condition: a\n", "t.yml")
    return found.detections[0].branches["process"]


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("process.name: Curl", p.Text("process.name", ("Curl",))),
        ("process.name|cased: Curl", p.Text("process.name", ("Curl",), True)),
        ("process.path|endswith: /curl", p.Text("process.path", (ANY, "/curl"))),
        ("process.path|startswith: /usr", p.Text("process.path", ("/usr", ANY))),
        (r"process.name: 'a\*b?c*d'", p.Text("process.name", ("a*b", ONE, "c", ANY, "d"))),
        ("process.name: '*'", p.Exists("process.name")),
        ("process.name: null", p.Not(p.Exists("process.name"))),
        ("process.name|exists: false", p.Not(p.Exists("process.name"))),
        ("process.name: ''", p.Any((p.Not(p.Exists("process.name")), p.Text("process.name", ())))),
        ("process.pid: 5", p.Number("process.pid", "==", 5)),
        ("process.pid: '5'", p.Number("process.pid", "==", 5)),
        ("process.pid|gt: 5", p.Number("process.pid", ">", 5)),
        ("process.name: 5", p.Text("process.name", ("5",))),
        ("process.command|re: 'a.*b\\d'", p.Pattern("process.command", "a.*b\\d")),
        ("process.command|re|i|m: 'a?'", p.Pattern("process.command", "(?im)a?")),
        ("process.command|fieldref|endswith: process.name", p.Same("process.command", "process.name", "ends")),
        ("process.name|cidr: 10.0.0.0/8", p.Network("process.name", "10.0.0.0/8")),
        ("process.command|contains|all: [a, b]", p.All((p.Text("process.command", (ANY, "a", ANY)), p.Text("process.command", (ANY, "b", ANY))))),
        ("process.command|base64: abc", p.Text("process.command", ("YWJj",))),
    ],
)  # fmt: skip
def test_questions(question: str, found: p.Predicate) -> None:
    assert asked(question) == found


def test_expansions_become_alternatives() -> None:
    dashes = asked("process.command|windash|contains: ' -f '")
    assert isinstance(dashes, p.Any)
    assert p.Text("process.command", (ANY, " /f ", ANY)) in dashes.args
    offsets = asked("process.command|base64offset|contains: secret")
    assert isinstance(offsets, p.Any)
    assert len(offsets.args) == 3


def test_keywords_are_looked_for_in_the_text_of_an_event() -> None:
    text = f"{HEAD}detection:\n  words:\n    - one\n    - 'two*'\n  condition: words\n"
    found = parse_sigma(text, "t.yml").detections[0].branches["process"]
    assert isinstance(found, p.Any)
    assert p.Text("process.command", (ANY, "one", ANY)) in found.args
    assert p.Text("process.path", (ANY, "two", ANY)) in found.args


@pytest.mark.parametrize(
    "question", ["process.command|re: null", "process.command|expand: '%x%'", "process.pid|re: [null]"]
)
def test_values_that_are_none_are_refused(question: str) -> None:
    with pytest.raises(RuleError):
        asked(question)


def test_several_conditions_are_alternatives() -> None:
    text = f"{HEAD}detection:\n  a: {{process.name: x}}\n  b: {{process.name: y}}\n  condition: [a, b]\n"
    found = parse_sigma(text, "t.yml").detections[0].branches["process"]
    assert found == p.Any((p.Text("process.name", ("x",)), p.Text("process.name", ("y",))))


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigma.collection", None)
    with pytest.raises(DetectionUnavailableError, match=r"capsule\[detection\]"):
        asked("process.name: c")
