from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsem.errors import ConflictError
from capsem.vm.lifecycle import ALIVE, STANDING, Act, Event, Life, State


def lived(*events: Event) -> Life:
    life = Life()
    for event in events:
        life.step(event)
    return life


def test_a_whole_life() -> None:
    life = Life()
    acts = [
        life.step(event)
        for event in (
            Event.START,
            Event.AGENT_READY,
            Event.STOP,
            Event.QEMU_ENDED,
            Event.START,
            Event.AGENT_READY,
        )
    ]
    assert acts == [Act.LAUNCH, Act.ANNOUNCE, Act.SHUT_DOWN, Act.NOTHING, Act.LAUNCH, Act.ANNOUNCE]
    assert life.state is State.RUNNING


def test_a_boot_that_hangs_is_tried_again_and_then_given_up() -> None:
    life = lived(Event.START)
    for _ in range(life.most_tries - 1):
        assert life.step(Event.BOOT_LATE) is Act.KILL
        assert life.step(Event.QEMU_ENDED) is Act.LAUNCH
    life.step(Event.BOOT_LATE)
    assert life.step(Event.QEMU_ENDED) is Act.NOTHING
    assert life.state is State.FAILED


def test_a_stop_that_is_late_kills() -> None:
    life = lived(Event.START, Event.AGENT_READY, Event.STOP)
    assert life.step(Event.STOP_LATE) is Act.KILL
    assert life.step(Event.QEMU_ENDED) is Act.NOTHING
    assert life.state is State.STOPPED


def test_a_machine_is_suspended_once_its_state_is_kept_and_qemu_has_gone() -> None:
    life = lived(Event.START, Event.AGENT_READY)
    assert life.step(Event.SUSPEND) is Act.SAVE
    with pytest.raises(ConflictError):
        life.step(Event.SUSPEND)
    assert life.step(Event.STATE_KEPT) is Act.KILL
    assert life.alive
    assert life.step(Event.QEMU_DIED) is Act.NOTHING
    assert life.state is State.SUSPENDED
    assert life.step(Event.START) is Act.LAUNCH
    assert not life.kept


def test_a_suspend_that_fails_runs_on_and_a_qemu_that_dies_meanwhile_is_a_crash() -> None:
    life = lived(Event.START, Event.AGENT_READY, Event.SUSPEND)
    assert life.step(Event.SUSPEND_FAILED) is Act.RUN_ON
    assert life.state is State.RUNNING
    life = lived(Event.START, Event.AGENT_READY, Event.SUSPEND, Event.QEMU_DIED)
    assert life.state is State.CRASHED
    life = lived(Event.START, Event.AGENT_READY, Event.SUSPEND, Event.STOP)
    assert life.step(Event.QEMU_DIED) is Act.NOTHING
    assert life.state is State.STOPPED


def test_how_qemu_ended_matters_while_it_ran() -> None:
    assert lived(Event.START, Event.AGENT_READY, Event.QEMU_ENDED).state is State.STOPPED
    assert lived(Event.START, Event.AGENT_READY, Event.QEMU_DIED).state is State.CRASHED
    assert lived(Event.START, Event.QEMU_DIED).state is State.STARTING
    assert lived(Event.START, Event.AGENT_READY, Event.STOP, Event.QEMU_DIED).state is State.STOPPED


def test_what_has_no_place_is_refused_and_changes_nothing() -> None:
    life = lived(Event.START, Event.AGENT_READY)
    with pytest.raises(ConflictError, match="running cannot take 'delete'"):
        life.step(Event.DELETE)
    assert life.state is State.RUNNING


EVENTS = st.lists(st.sampled_from(Event), max_size=40)


@given(EVENTS)
def test_whatever_comes_a_machine_is_launched_only_when_none_runs(events: list[Event]) -> None:
    life, running = Life(), False
    for event in events:
        if event in {Event.QEMU_ENDED, Event.QEMU_DIED} and not running:
            continue  # What does not run cannot end.
        running = running and event not in {Event.QEMU_ENDED, Event.QEMU_DIED}
        act = None
        with contextlib.suppress(ConflictError):
            act = life.step(event)
        if act is Act.LAUNCH:
            assert not running
            running = True
        if act in {Act.CLEAN, Act.ANNOUNCE}:
            assert running == (act is Act.ANNOUNCE)
        if life.state in ALIVE:
            assert running
            assert life.alive
        assert (life.state in STANDING or life.state is State.DELETED) != life.alive
        assert life.state is not State.SUSPENDED or life.kept


@given(EVENTS)
def test_a_deleted_machine_stays_deleted(events: list[Event]) -> None:
    life = lived(Event.DELETE)
    for event in events:
        with pytest.raises(ConflictError):
            life.step(event)
    assert life.state is State.DELETED


@given(EVENTS)
def test_tries_are_bounded(events: list[Event]) -> None:
    life, since_start = Life(), 0
    for event in events:
        with contextlib.suppress(ConflictError):
            act = life.step(event)
            since_start = (
                1 if event is Event.START and act is Act.LAUNCH else since_start + (act is Act.LAUNCH)
            )
        assert since_start <= life.most_tries
