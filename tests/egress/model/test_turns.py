from __future__ import annotations

from capsule.egress.model.shape import Request
from capsule.egress.model.turns import MOST, Turns


def ask(*messages: object, previous: str | None = None) -> Request:
    return Request("m", stream=False, messages=messages, previous=previous)


def test_a_call_goes_on_from_the_longest_beginning() -> None:
    turns = Turns()
    assert turns.link(ask("a"), "e1") is None
    assert turns.link(ask("a", "b", "c"), "e2") == "e1"
    assert turns.link(ask("a", "b", "c", "d"), "e3") == "e2"
    assert turns.link(ask("a", "x"), "e4") == "e1"
    assert turns.link(ask("b"), "e5") is None


def test_the_same_call_again_is_no_turn() -> None:
    turns = Turns()
    for number in range(3):
        assert turns.link(ask("a"), f"e{number}") is None
    assert turns.link(ask("a", "b", "c"), "f1") == "e2"
    assert turns.link(ask("a", "b", "c"), "f2") == "e2", "a retry goes on from where the first one did"


def test_a_named_response_wins() -> None:
    turns = Turns()
    turns.link(ask("a"), "e1")
    turns.answered("resp_1", "e1")
    turns.answered(None, "e1")
    assert turns.link(ask("z", previous="resp_1"), "e2") == "e1"
    assert turns.link(ask("a", "b", previous="resp_9"), "e3") is None


def test_messages_run_together_are_other_messages() -> None:
    turns = Turns()
    turns.link(ask("ab"), "e1")
    assert turns.link(ask("a", "b"), "e2") is None


def test_the_oldest_are_forgotten() -> None:
    turns = Turns()
    for number in range(MOST + 1):
        turns.link(ask(number), f"e{number}")
    assert turns.link(ask(0, "more"), "x") is None
    assert turns.link(ask(MOST, "more"), "y") == f"e{MOST}"
