"""What a condition reads, and literals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from capsule.rules.environment import activation, sections_of
from capsule.rules.expression import Condition, Outcome, compile_condition
from capsule.rules.inspection import cel_string


def compiled(source: str) -> Condition:
    return compile_condition(source, ("http",))


def asked(source: str, event: Mapping[str, Any]) -> Outcome:
    return compile_condition(source, ("http",)).ask(activation(event, sections_of(["http"])), event)


def test_reads_say_what_is_guarded() -> None:
    reads = {
        (read.path, read.field, read.guarded)
        for read in compiled('has(http.sni) && http.headers["a"] == "b"').reads
    }
    assert reads == {("http.sni", "http.sni", True), ("http.headers.a", "http.headers", False)}


@pytest.mark.parametrize("text", ["", 'a"b', "a\\b", "line\nbreak", "\x01\x7f\x9f", "é😀\u2028", "'"])
def test_literals_come_back(text: str) -> None:
    assert asked(f"http.host == {cel_string(text)}", {"http": {"host": text}}) is True
