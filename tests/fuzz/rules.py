"""The readers of rules as targets: bytes → rules or detections that answer for events, or errors with a place.

Refuses an answer that is no verdict, rules that fail while they are asked, and an error without a place in the file.

    fuzz(RULES, seed=1, inputs=1000, seconds=4)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from capsule.errors import Problem
from capsule.rules.detection.detector import Detector
from capsule.rules.detection.packs import load_pack
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.detection.sql import select
from capsule.rules.engine import compile_rules
from capsule.rules.lint import lint
from capsule.rules.rule import RuleError, parse_rules
from tests.fuzz.engine import Target

EVENTS = (
    {"event": {"type": "http"}, "http": {"method": "POST", "host": "a.example", "path": "/x", "port": 443}},
    {"event": {"type": "dns"}, "dns": {"name": "a.example", "length": 9, "entropy": 2.5}},
    {
        "event": {"type": "process"},
        "process": {"path": "/bin/sh", "command": "sh -c x", "argv": ["sh", "-c", "x"]},
    },
    {"event": {"type": "file"}, "file": {"operation": "write", "path": "/etc/passwd", "name": "passwd"}},
)
VERDICTS = {"allow", "ask", "block", "rewrite", "undecided"}
RULES_SEEDS = (
    'version: 1\nrules:\n  - {id: a, on: http, when: \'http.host == "a.example" && http.method in ["GET"]\','
    " action: allow, priority: 10, reason: r}\n",
    "version: 1\nrules:\n  - id: b\n    on: [http, dns]\n    when: |\n      has(http.sni) && "
    'http.path.startsWith("/x") || size(dns.name) > 40\n    action: ask\n    ask_timeout: 30s\n',
    'version: 1\nrules:\n  - id: c\n    on: http\n    when: \'http.headers["x-id"].matches("^[a-z]+$")\'\n'
    "    action: rewrite\n    rewrite:\n      - {remove_header: x-a}\n      - {set_header: {x-id: z}}\n"
    "      - {set_query: {k: v}}\n"
    "      - {set_json: {'$.a.b': '-'}}\n      - {redact: '[0-9]{16}', with: '[card]', in: response}\n",
)
SIGMA_SEEDS = (
    "title: T\nid: t\nlogsource: {product: linux, category: process_creation}\ndetection:\n  a:\n"
    "    Image|endswith: ['/sh', '/bash']\n    CommandLine|contains|all: [x, '*y?']\n  b: {ParentImage: null}\n"
    "  condition: a and not 1 of b*\nlevel: high\n",
    "title: T\nid: u\nlogsource: {product: capsule, category: http}\ndetection:\n  a:\n    http.path|re: '^/x.*'\n"
    "    http.address|cidr: [10.0.0.0/8]\n    http.port|gte: 1\n  k: [word, other]\n  condition: all of them\n",
    "title: base\nid: b\nname: base\nlogsource: {product: capsule, category: http}\n"
    "detection: {a: {http.method: POST}, condition: a}\n---\ntitle: many\nid: m\ncorrelation:\n"
    "  type: event_count\n  rules: [base]\n  group-by: [program.path]\n  timespan: 1m\n  condition: {gte: 3}\n",
)


def check_rules(data: bytes) -> Iterable[Hashable]:
    """Read, compile, ask about four events, and lint."""
    try:
        rules = compile_rules([parse_rules(data.decode("utf-8", "replace"), "rules.yaml")])
    except RuleError as error:
        return _told(error.problems, data)
    for event in EVENTS:
        assert rules.decide(event).action in VERDICTS
        assert rules.decide(event, "response").action in VERDICTS
    for remark in lint(rules.rules):
        assert str(remark)
    return ("rules", len(rules))


def check_sigma(data: bytes) -> Iterable[Hashable]:
    """Read, compile to both, and look at four events."""
    try:
        found = parse_sigma(data.decode("utf-8", "replace"), "t.yml")
        detector = Detector([found])
    except RuleError as error:
        return _told(error.problems, data)
    for event in EVENTS:
        detector.observe(event)
    for detection in found.detections:
        if detection.branches:
            assert select(detection).sql.startswith("SELECT")
    return ("detections", len(found.detections), len(found.correlations))


def _told(problems: Iterable[Problem], data: bytes) -> Iterable[Hashable]:
    last = data.count(b"\n") + data.count(b"\r") + 2
    kinds = []
    for problem in problems:
        assert problem.what, f"nothing is said: {problem}"
        assert 1 <= problem.line <= last, f"no place: {problem}"
        kinds.append(problem.what.partition("'")[0][:40])
    assert kinds, "refused without a problem"
    return kinds


RULES = Target(
    "rules",
    check_rules,
    tuple(seed.encode() for seed in RULES_SEEDS),
    ("capsule/rules/",),
    (
        b"&&",
        b"||",
        b"!",
        b"has(",
        b"http.body.json",
        b"size(",
        b"in [",
        b"matches(",
        b"in:",
        b"redact:",
        b"dns",
    ),
)
SIGMA = Target(
    "sigma",
    check_sigma,
    (*(seed.encode() for seed in SIGMA_SEEDS), *(text.encode() for _, text in load_pack("agents") or ())),
    ("capsule/rules/detection/",),
    (
        b"|base64offset",
        b"|windash",
        b"|utf16",
        b"|exists",
        b"|fieldref",
        b"|cased",
        b"1 of",
        b"all of",
        b"not",
    ),
)
