"""The account of a run is exact, however calls overlap."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from capsule.egress.budget import Budget, Exhausted, Limits, Reservation


def taken(budget: Budget, **amounts: Any) -> Reservation:
    found = budget.reserve(**amounts)
    assert isinstance(found, Reservation), found
    return found


def refused(found: Reservation | Exhausted | None) -> Exhausted:
    assert isinstance(found, Exhausted)
    return found


def test_no_limits() -> None:
    budget = Budget(Limits())
    taken(budget, requests=1, tokens=10**12).settle()
    assert budget.reserve(requests=1, microdollars=None) is not None
    assert budget.spend_bytes(10**15) is None
    assert budget.state() == {}
    assert not budget.of_calls


def test_requests_are_counted_when_they_are_decided() -> None:
    budget = Budget(Limits(requests=2))
    first, second = taken(budget, requests=1), taken(budget, requests=1)
    assert (
        "1 requests asked for, 0 left of 2 in this run, 2 of it in calls that still run"
        in refused(budget.reserve(requests=1)).reason
    )
    first.settle()
    refused(budget.reserve(requests=1))
    second.release()
    taken(budget, requests=1).settle()
    assert refused(budget.reserve(requests=1)).allow == "raise network.budget.requests"
    assert budget.state() == {"requests": {"used": 2, "reserved": 0, "limit": 2}}


def test_after_bytes_that_did_not_fit_nothing_does() -> None:
    budget = Budget(Limits(bytes=100))
    assert budget.spend_bytes(60) is None
    assert "41 bytes asked for, 40 left of 100" in refused(budget.spend_bytes(41)).reason
    after = refused(budget.spend_bytes(1)).reason
    assert after == "the run's bytes are used up: 41 more did not fit into 40 left of 100 in this run"
    assert refused(budget.reserve(requests=1)).what == "bytes"
    assert budget.state() == {"bytes": {"used": 60, "reserved": 0, "limit": 100}}


def test_a_call_takes_the_most_it_may_use_and_gives_back_the_rest() -> None:
    budget = Budget(Limits(tokens=10_000))
    one = taken(budget, tokens=6_000)
    refused(budget.reserve(tokens=6_000))
    one.settle(tokens=500)
    two = taken(budget, tokens=9_500)
    two.settle(tokens=9_500)
    assert refused(budget.reserve(tokens=1)).what == "tokens"


def test_what_nobody_knows_was_all_used() -> None:
    budget = Budget(Limits(tokens=100, microdollars=50))
    taken(budget, tokens=60, microdollars=40).settle()
    assert budget.state()["tokens"]["used"] == 60
    assert budget.state()["microdollars"]["used"] == 40


def test_a_call_without_a_maximum_may_overrun_once() -> None:
    budget = Budget(Limits(tokens=100))
    taken(budget, tokens=1).settle(tokens=5_000)
    assert "0 left of 100" in refused(budget.reserve(tokens=1)).reason


def test_dollars_are_told_in_dollars_and_unknown_prices_are_refused() -> None:
    budget = Budget(Limits(microdollars=5_000_000))
    assert budget.of_calls
    taken(budget, microdollars=4_999_000).settle()
    assert (
        refused(budget.reserve(microdollars=2_500)).reason
        == "0.0025 dollars asked for, 0.001 left of 5 in this run"
    )
    assert (
        "nobody knows what this call costs" in refused(budget.reserve(requests=1, microdollars=None)).reason
    )
    assert isinstance(Budget(Limits(tokens=5)).reserve(tokens=1, microdollars=None), Reservation)


def test_all_or_nothing() -> None:
    budget = Budget(Limits(requests=5, tokens=5))
    refused(budget.reserve(requests=1, tokens=6))
    assert budget.state()["requests"] == {"used": 0, "reserved": 0, "limit": 5}


def test_bytes() -> None:
    budget = Budget(Limits(bytes=10))
    assert budget.spend_bytes(10) is None
    assert refused(budget.spend_bytes(1)).what == "bytes"
    assert budget.state()["bytes"]["used"] == 10
    assert budget.spend_bytes(0) is None


def test_a_stream_is_cut_at_the_byte() -> None:
    budget = Budget(Limits(bytes=100))
    assert budget.spend_part(60) == (60, None)
    fits, why = budget.spend_part(41)
    assert fits == 40
    assert "41 bytes asked for, 40 left of 100" in refused(why).reason
    assert budget.state()["bytes"]["used"] == 100
    fits, why = budget.spend_part(1)
    assert (fits, refused(why).what) == (0, "bytes")
    assert budget.spend_part(0) == (0, None)
    assert Budget(Limits()).spend_part(10**12) == (10**12, None)


def test_a_limit_of_nothing() -> None:
    budget = Budget(Limits(requests=0, bytes=0))
    refused(budget.reserve(requests=1))
    refused(budget.spend_bytes(1))


def test_near_is_told_once() -> None:
    budget = Budget(Limits(requests=10, bytes=10))
    for _ in range(7):
        taken(budget, requests=1).settle()
    assert budget.near() == ()
    budget.spend_bytes(9)
    taken(budget, requests=1).settle()
    assert budget.near() == ("requests", "bytes")
    assert budget.near() == ()


def test_a_reservation_ends_once() -> None:
    budget = Budget(Limits(tokens=10))
    one = taken(budget, tokens=4)
    one.settle(tokens=3)
    one.release()
    with pytest.raises(ValueError, match="settled already"):
        one.settle()
    assert budget.state()["tokens"] == {"used": 3, "reserved": 0, "limit": 10}


@pytest.mark.parametrize("amount", [-1, -(10**9)])
def test_amounts_are_not_negative(amount: int) -> None:
    budget = Budget(Limits(tokens=10))
    with pytest.raises(ValueError, match="not an amount"):
        budget.reserve(tokens=amount)
    with pytest.raises(ValueError, match="not an amount"):
        budget.spend_bytes(amount)


@given(
    st.integers(0, 50), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.booleans()), max_size=40)
)
def test_calls_that_keep_to_their_maximum_never_overrun(
    limit: int, calls: list[tuple[int, int, bool]]
) -> None:
    budget = Budget(Limits(tokens=limit))
    running: list[tuple[Reservation, int]] = []
    for most, used, wait in calls:
        found = budget.reserve(tokens=most)
        if isinstance(found, Reservation):
            running.append((found, min(most, used)))
        if running and not wait:
            one, real = running.pop(0)
            one.settle(tokens=real)
        state = budget.state()["tokens"]
        assert state["used"] + state["reserved"] <= limit


class Account(RuleBasedStateMachine):
    """Against a model: what was settled, and what still runs."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(Limits(requests=20, tokens=200))
        self.running: list[tuple[Reservation, int]] = []
        self.requests = self.tokens = 0

    @rule(tokens=st.integers(0, 80))
    def reserve(self, tokens: int) -> None:
        reserved = sum(amount for _, amount in self.running)
        fits = self.requests + len(self.running) < 20 and (
            not tokens or self.tokens + reserved + tokens <= 200
        )
        found = self.budget.reserve(requests=1, tokens=tokens)
        assert isinstance(found, Reservation) is fits
        if isinstance(found, Reservation):
            self.running.append((found, tokens))

    @precondition(lambda self: self.running)
    @rule(used=st.integers(0, 120), keep=st.booleans(), which=st.integers(0, 99))
    def end(self, used: int, keep: bool, which: int) -> None:
        reservation, tokens = self.running.pop(which % len(self.running))
        if keep:
            reservation.settle(tokens=used)
            self.requests += 1
            self.tokens += used if tokens else 0
        else:
            reservation.release()

    @invariant()
    def agrees(self) -> None:
        state = self.budget.state()
        assert state["requests"]["used"] == self.requests
        assert state["requests"]["reserved"] == len(self.running)
        assert state["tokens"]["used"] == self.tokens
        assert state["tokens"]["reserved"] == sum(amount for _, amount in self.running)


TestAccount = Account.TestCase


def test_what_a_call_may_use_besides_is_taken_as_far_as_it_is_there() -> None:
    budget = Budget(Limits(tokens=1000, microdollars=500))
    first = budget.reserve(
        requests=1, tokens=11, microdollars=20, besides={"tokens": 4096, "microdollars": 100}
    )
    assert isinstance(first, Reservation)
    assert budget.state()["tokens"]["reserved"] == 1000
    assert budget.state()["microdollars"]["reserved"] == 120
    assert (first.amount("tokens"), first.amount("microdollars")) == (11, 20), (
        "what is held against it is what it said"
    )
    assert "in calls that still run" in refused(budget.reserve(requests=1, tokens=1)).reason
    first.settle(tokens=30, microdollars=40)
    second = budget.reserve(requests=1, tokens=1, besides={"tokens": 100})
    assert isinstance(second, Reservation)
    assert budget.state()["tokens"] == {"used": 30, "reserved": 101, "limit": 1000}
    assert budget.state()["microdollars"] == {"used": 40, "reserved": 0, "limit": 500}
    second.release()
    assert budget.state()["tokens"]["reserved"] == 0


def test_one_that_is_closed_lets_nothing_go() -> None:
    budget = Budget(Limits(tokens=1000))
    budget.close(Exhausted("tokens", "nobody counts", "count"))
    assert refused(budget.reserve(requests=1)).reason == "nobody counts"
