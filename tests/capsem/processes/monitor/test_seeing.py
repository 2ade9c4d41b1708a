from __future__ import annotations

from typing import Any

import pytest

from capsem.processes.monitor.seeing import FINDINGS, REFUSALS, Seeing
from capsem.wire.monitor import Exited, encode


def test_the_lists_have_an_end_and_what_is_left_out_is_counted() -> None:
    seeing = Seeing()
    long = "\x1b" * 100_000  # six bytes each in JSON
    block = {
        "action": "block",
        "by": long,
        "reason": long,
        "allow": long,
        "rule": {"id": "r", "file": long, "line": 3},
    }
    program = {"path": long, "reported_by": "guest"}
    for _ in range(REFUSALS + 50):
        seeing.add("egress.http", {"http": {"host": long}, "decision": block, "program": program})
        seeing.add("egress.finding", {"rule": {"id": "r", "title": long, "level": long}})
    seen = seeing.seen()
    assert (seen.requests, seen.refused_total, len(seen.refused), len(seen.findings)) == (
        REFUSALS + 50, REFUSALS + 50, REFUSALS, FINDINGS,
    )  # fmt: skip
    assert (seen.refused[0].kind, seen.refused[0].rule, seen.refused[0].line) == ("http", "r", 3)
    encode(Exited(0, None, False, 0, 0, seen))


@pytest.mark.parametrize(
    "kind",
    [
        "egress.http",
        "egress.dns",
        "egress.tcp",
        "egress.model",
        "egress.finding",
        "machine.dial",
        "machine.exec",
        "machine.file",
    ],
)
@pytest.mark.parametrize("odd", [None, 3, [], {"a": 1}, -5, "x"])
def test_odd_values_are_no_error(kind: str, odd: Any) -> None:
    seeing = Seeing()
    names = ("http", "dns", "tcp", "model", "dial", "process", "program", "rule", "operation", "input_tokens")
    seeing.add(kind, {**dict.fromkeys(names, odd), "decision": {"action": "block", "by": odd, "rule": odd}})
    seeing.add(kind, {"decision": odd, "model": {"input_tokens": odd}})
    encode(Exited(0, None, False, 0, 0, seeing.seen()))
