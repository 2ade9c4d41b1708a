from __future__ import annotations

import asyncio

import pytest

from capsem.host.reports import MOST, Reports
from capsem.wire.guest import Lost

pytestmark = pytest.mark.asyncio


async def test_they_come_in_order_and_are_waited_for() -> None:
    reports = Reports(pause=lambda: None, resume=lambda: None)
    taking = asyncio.create_task(reports.taken())
    await asyncio.sleep(0)
    assert not taking.done()
    for count in (1, 2):
        reports.put(Lost("changes", count))
    assert [one.count for one in await taking if isinstance(one, Lost)] == [1, 2]
    assert reports.rest() == []


async def test_a_flood_is_not_read_on_until_what_waits_was_taken() -> None:
    said: list[str] = []
    reports = Reports(pause=lambda: said.append("pause"), resume=lambda: said.append("resume"))
    for count in range(1, MOST):
        reports.put(Lost("changes", count))
    assert said == []
    for count in range(1, 10):
        reports.put(Lost("changes", count))
    assert said == ["pause"], "once"
    assert len(await reports.taken()) == MOST + 8
    assert said == ["pause", "resume"]
    reports.put(Lost("changes", 1))
    assert len(reports.rest()) == 1
    assert said == ["pause", "resume"]
