"""What is remembered of questions."""

from __future__ import annotations

import math
import random
import string
from typing import Any

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.dns import Question, answer, parse
from capsule.egress.dns_record import WINDOW_US, Tally, describe, entropy, features
from capsule.egress.pool import Pool


@pytest.mark.parametrize(
    ("text", "bits"),
    [("", 0.0), ("aaaa", 0.0), ("ab", 1.0), ("abcd", 2.0), ("aab", 0.918), ("01234567", 3.0)],
)
def test_entropy(text: str, bits: float) -> None:
    assert entropy(text) == bits


@given(st.text(max_size=70))
def test_entropy_is_bounded_by_the_alphabet(text: str) -> None:
    assert 0 <= entropy(text) <= math.log2(max(len(set(text)), 1)) + 0.001


def test_features() -> None:
    assert features("www.pkgs.org") == {"labels": 3, "length": 12, "entropy": entropy("pkgs")} | {
        "entropy": entropy("www") if len("www") > len("pkgs") else entropy("pkgs")
    }
    assert features(".") == {"labels": 0, "length": 1, "entropy": 0.0}
    rng = random.Random(3)
    encoded = "".join(rng.choices(string.ascii_lowercase + "234567", k=52))
    assert features(f"{encoded}.tunnel.example")["entropy"] > 4 > features("static.files.example")["entropy"]


@pytest.mark.parametrize(
    ("name", "qtype", "allowed", "wanted"),
    [
        ("pkgs.org", "A", True, {"rcode": "NOERROR", "answer": "198.18.0.2"}),
        ("pkgs.org", "AAAA", True, {"rcode": "NOERROR"}),
        ("evil.example", "TXT", False, {"rcode": "NXDOMAIN"}),
    ],
)
def test_describe(name: str, qtype: str, allowed: bool, wanted: dict[str, str]) -> None:
    question = parse(dns.message.make_query(name, qtype).to_wire(), "tcp")
    assert isinstance(question, Question)
    described = describe(question, answer(question, Pool(), allowed=allowed))
    assert described == {"name": name, "qtype": qtype, "transport": "tcp", **features(name), **wanted}


def event(name: str) -> dict[str, Any]:
    return {"name": name, "qtype": "A"}


def test_equal_questions_within_a_second_are_counted() -> None:
    tally = Tally()
    assert tally.add(event("a"), 0) == [event("a")], "the first one is on the log at once"
    assert tally.add(event("a"), 10) == []
    assert tally.add(event("b"), 20) == [event("b")]
    assert tally.add(event("a"), WINDOW_US - 1) == []
    assert tally.due(WINDOW_US - 1) == []
    assert tally.due(WINDOW_US) == [{**event("a"), "count": 2}]
    assert tally.due(5 * WINDOW_US) == [], "b came once and was recorded once"
    assert tally.add(event("a"), 6 * WINDOW_US) == [event("a")]


def test_what_another_program_asks_is_another_question() -> None:
    tally = Tally()
    assert tally.add(event("a"), 0, key=100) == [event("a")]
    assert tally.add(event("a"), 0, key=200) == [event("a")]


def test_no_more_windows_than_allowed() -> None:
    tally = Tally(windows=2)
    tally.add(event("a"), 0)
    tally.add(event("a"), 1)
    tally.add(event("b"), 2)
    assert tally.add(event("c"), 3) == [{**event("a"), "count": 1}, event("c")]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 400_000)), max_size=80), st.integers(1, 4))
def test_nothing_is_lost_or_invented(asked: list[tuple[str, int]], windows: int) -> None:
    tally = Tally(windows)
    now, recorded = 0, []
    for name, pause in asked:
        now += pause
        recorded += tally.add(event(name), now)
    recorded += tally.close()
    for name in "abcde":
        total = sum(found.get("count", 1) for found in recorded if found["name"] == name)
        assert total == sum(1 for other, _ in asked if other == name)
