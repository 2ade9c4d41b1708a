"""How much may be done in a time."""

from __future__ import annotations

from capsem.host.allowance import Allowance


def test_what_is_over_it_is_not_there_until_it_is_earned() -> None:
    two = Allowance(a_second=2, at_once=2, now=10.0)
    assert [two.take(10.0) for _ in range(3)] == [True, True, False]
    assert not two.take(10.4)
    assert two.take(10.5)
    assert not two.take(10.5)


def test_a_long_pause_earns_no_more_than_fits() -> None:
    two = Allowance(a_second=2, at_once=2, now=0.0)
    assert [two.take(1000.0) for _ in range(3)] == [True, True, False]


def test_who_takes_in_any_case_is_told_how_long_that_is_owed() -> None:
    ten = Allowance(a_second=10, at_once=1, now=0.0)
    assert [ten.owe(0.0) for _ in range(3)] == [0.0, 0.1, 0.2]
    assert ten.owe(0.3) == 0.0
