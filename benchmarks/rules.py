"""How many decisions and detections a second, on one core, and how long until a changed file of rules is in force?

200 rules of the kinds that people write (a host and a method, a suffix, a path, a header, a pattern, a body), and 200
of which none names a constant that rules it out (a quarter are patterns); requests of which about half meet a rule.
100 Sigma rules of the usual shape (a program and a part of its command line) and, where CAPSULE_SIGMA_RULES names their
folder, SigmaHQ's for Linux, which are counted by whether they compile. The row `plain` evaluates all 200 conditions one
by one, as without the index.

Run: ``python -m benchmarks.rules [--rounds N]``
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import NotWorkingError, save, summarise, table
from capsule.rules.detection.detector import Detector
from capsule.rules.detection.model import SigmaFile
from capsule.rules.detection.packs import load_pack
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.engine import RuleSet, compile_rules
from capsule.rules.environment import activation, sections_of
from capsule.rules.expression import compile_condition
from capsule.rules.rule import RuleError, parse_rules

RULES, EVENTS = 200, 1000
MIXED = (
    'http.host == "h{0}.example" && http.method == "POST"',
    'http.host.endsWith(".s{0}.example")',
    'http.host == "api.example" && http.path.startsWith("/v{0}/")',
    'http.path.contains("/p{0}/")',
    'http.host in ["a{0}.example", "b{0}.example"] && http.port == 443',
    'http.host == "up{0}.example" && http.body.size > 1000',
    'http.host == "x{0}.example" && "x-h{0}" in http.headers',
    'http.path.startsWith("/admin{0}") && http.method in ["PUT", "POST"]',
    'program.name == "tool{0}"',
    'http.host == "m{0}.example" && http.path.matches("^/v[0-9]+/x$")',
)
LOOSE = (
    'http.path.matches("^/v[0-9]+/p{0}$")',
    "http.path.size() > 100{0}",
    'has(http.sni) && http.sni != "s{0}.example"',
    'http.path.contains("/p{0}/") || http.query.contains("token{0}=")',
)


def rule_text(shapes: tuple[str, ...]) -> str:
    """A file of 200 rules of these shapes, in turn."""
    rows = [
        f"  - {{id: r{n}, on: http, when: '{shapes[n % len(shapes)].format(n)}', "
        f"action: {('allow', 'block', 'ask')[n % 3]}, priority: {10 + n}}}"
        for n in range(RULES)
    ]
    return "version: 1\nrules:\n" + "\n".join(rows) + "\n"


def request(number: int, host: str, path: str, method: str = "GET") -> dict[str, Any]:
    """A request as egress shows it to the rules."""
    url = f"https://{host}{path}?a=b"
    return {
        "event": {"id": f"e{number}", "type": "http", "time": "2026-01-01T00:00:00Z"},
        "run": "r1",
        "program": {"path": "/usr/bin/curl", "pid": 4, "argv": ["curl", url], "name": "curl"},
        "http": {
            "id": f"1-{number}", "method": method, "scheme": "https", "host": host, "port": 443, "path": path,
            "query": "a=b", "url": url, "version": "2", "user_agent": "curl/8", "content_type": "application/json",
            "headers": {
                "user-agent": "curl/8", "accept": "*/*", "content-type": "application/json",
                "authorization": "[secret]",
            },
        },
    }  # fmt: skip


def requests() -> list[dict[str, Any]]:
    """1000 requests; about half meet a rule of the mixed kind."""
    order = random.Random(1)
    made = []
    for number in range(EVENTS):
        kind, n = order.randrange(8), order.randrange(20) * 10
        if kind < 4:
            made.append(request(number, "packages.example", f"/simple/{number}"))
        elif kind == 4:
            made.append(request(number, f"h{n}.example", "/x", "POST"))
        elif kind == 5:
            made.append(request(number, "api.example", f"/v{n + 2}/x"))
        elif kind == 6:
            made.append(request(number, f"a.s{n + 1}.example", "/q"))
        else:
            made.append(request(number, "files.example", f"/p{n + 3}/x"))
    return made


def sigma_text(count: int) -> str:
    """Sigma rules of the usual shape, none of which is about what the programs below do."""
    return "---\n".join(
        f"title: rule {n}\nid: s{n}\nlogsource: {{product: linux, category: process_creation}}\ndetection:\n"
        f"  image: {{Image|endswith: [/tool{n}, /other{n}]}}\n"
        f"  command: {{CommandLine|contains: [' --steal{n}', 'secret{n}', '/etc/x{n}']}}\n"
        f"  condition: {'image and command' if n % 5 else 'command'}\n"
        for n in range(count)
    )


def programs() -> list[dict[str, Any]]:
    """1000 programs that an agent starts."""
    order = random.Random(2)
    lines = [
        "ls -la", "git status --short", "python3 -m pytest -q", "bash -c make all 2>&1 | tail", "gcc -O2 -c a.c -o a.o",
        "rg -n main src", "node server.js --port 3000", "curl -fsSL https://packages.example/x",
    ]  # fmt: skip
    made = []
    for number in range(EVENTS):
        words = [*order.choice(lines).split(), str(number)]
        made.append({
            "event": {"id": f"e{number}", "type": "process", "time": "2026-01-01T00:00:00Z"},
            "run": "r1",
            "program": {"path": "/usr/bin/bash", "name": "bash", "argv": ["bash"], "pid": 3},
            "process": {
                "path": f"/usr/bin/{words[0]}", "name": words[0], "argv": words, "command": " ".join(words),
                "pid": number,
            },
        })  # fmt: skip
    return made


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of this process's own processor time: others on the machine do not count."""
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / 1e6


def published() -> tuple[list[SigmaFile], dict[str, object]]:
    """SigmaHQ's rules where they are, and how many compile and fire."""
    folder = os.environ.get("CAPSULE_SIGMA_RULES")
    if not folder:
        return [], {"published rules for Linux": "absent (CAPSULE_SIGMA_RULES is not set)"}
    files: list[SigmaFile] = []
    refused: list[str] = []
    for path in sorted(Path(folder).rglob("*.yml")):
        try:
            files.append(parse_sigma(path.read_text(), path.name))
        except RuleError as error:
            refused.append(str(error))
    rules = [one for file in files for one in file.detections]
    silent = [
        f"{one.about.title}: events never have {', '.join(one.unrecorded)}"
        for one in rules
        if not one.branches
    ]
    return files, {
        "published rules for Linux": len(rules) + len(refused),
        "of these compile": len(rules),
        "do not compile": refused or "none",
        "can never fire": silent or "none",
    }


def compiled(text: str, file: str) -> RuleSet:
    """The rules, with nothing kept from before."""
    compile_condition.cache_clear()
    return compile_rules([parse_rules(text, file)])


def main() -> int:
    """Measure, print the tables, write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    mixed, loose = rule_text(MIXED), rule_text(LOOSE)
    rules, without = compiled(mixed, "mixed.yaml"), compiled(loose, "loose.yaml")
    events, started = requests(), programs()
    hundred = Detector([parse_sigma(sigma_text(100), "hundred.yml")])
    pack = Detector([parse_sigma(text, name) for name, text in load_pack("agents") or ()])
    theirs, counted = published()
    all_of_theirs = Detector(theirs) if theirs else None
    sections = sections_of(["http"])

    def plain() -> None:
        for event in events[:100]:
            shown = activation(event, sections)
            for one in rules.rules:
                one.condition.ask(shown, event)

    outcomes = [rules.decide(event).action for event in events]
    if not 0.3 < sum(action != "undecided" for action in outcomes) / EVENTS < 0.7:
        raise NotWorkingError("the requests do not meet the rules as intended")
    if sum(bool(pack.observe(event)) for event in started):
        raise NotWorkingError("the pack fires for ordinary programs")
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "200 rules": (EVENTS, lambda: [rules.decide(event) for event in events]),
        "200 rules without constants": (EVENTS, lambda: [without.decide(event) for event in events]),
        "200 rules, plain": (100, plain),
        "100 Sigma rules": (EVENTS, lambda: [hundred.observe(event) for event in started]),
        "the pack for agents": (EVENTS, lambda: [pack.observe(event) for event in started]),
        "parse and compile 200 rules": (1, lambda: compiled(mixed, "mixed.yaml")),
        "one of 200 rules changed": (1, lambda: compile_rules([parse_rules(mixed, "mixed.yaml")])),
        "parse and compile 20 rules": (1, lambda: compiled("\n".join(mixed.split("\n")[:22]), "twenty.yaml")),
    }
    if all_of_theirs is not None:
        many = f"{len(all_of_theirs)} published Sigma rules"
        work[many] = (EVENTS, lambda: [all_of_theirs.observe(event) for event in started])
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.rounds):
        for name, (_, run) in work.items():
            times[name].append(timed(run))
    rows = summarise(times, "200 rules")
    print(table(rows))
    rates = {
        f"{row.name}, a second": int(work[row.name][0] / row.median * 1000)
        for row in rows
        if work[row.name][0] > 1
    }
    facts = {**rates, **counted, "clock": "this process's processor time"}
    for name, value in facts.items():
        print(f"{name}: {value}")
    save("rules", "python -m benchmarks.rules", {"rules": rows}, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
