"""Frames that carry nothing: what counts, what is forgotten, and that nobody else waits for who sends them."""

from __future__ import annotations

from typing import Any

import h2.events
import pytest

from capsule.egress.flooding import BURST, PACE, RESET, Flooding, weight
from tests.egress.supervisor import host
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream


def data(body: bytes, *, last: bool = False) -> h2.events.DataReceived:
    ended = h2.events.StreamEnded(stream_id=1) if last else None
    return h2.events.DataReceived(stream_id=1, data=body, flow_controlled_length=0, stream_ended=ended)


def test_what_counts() -> None:
    assert weight(h2.events.PingReceived(ping_data=bytes(8))) == 1
    assert weight(h2.events.StreamReset(stream_id=1)) == RESET
    assert weight(data(b"")) == 1
    assert weight(data(b"", last=True)) == weight(data(b"x")) == 0
    assert weight(h2.events.WindowUpdated(stream_id=0, delta=1)) == 1
    assert weight(h2.events.WindowUpdated(stream_id=0, delta=16384)) == 0
    assert weight(h2.events.StreamEnded(stream_id=1)) == 0


def test_a_burst_is_forgotten_and_a_flood_is_not() -> None:
    ping, flooding = h2.events.PingReceived(ping_data=bytes(8)), Flooding()
    assert not any([flooding.too_many(ping, 100.0) for _ in range(int(BURST))])  # noqa: C419 - all
    assert flooding.too_many(ping, 100.0)
    later = 100.0 + BURST / PACE + 1
    assert not any([flooding.too_many(ping, later) for _ in range(int(BURST))])  # noqa: C419 - all
    slow = Flooding()
    assert not any([slow.too_many(ping, each / PACE) for each in range(20_000)])  # noqa: C419 - all


@pytest.mark.needs("userns", "unshare", "curl")
@pytest.mark.parametrize("kind", ["ping", "settings", "priority", "empty", "reset"])
def test_a_flood_ends_and_others_go_on(session: Any, upstream: Upstream, kind: str) -> None:
    inside = session(host("a.example", 443), **to(upstream))
    assert inside.client("flood", "a.example", kind, "150").out == "answered\n", (
        "the control: that many are no flood"
    )
    # What it costs, which is how long it keeps others waiting, however busy the host is.
    began = inside.run.daemon.spent()
    done = inside.client("flood", "a.example", kind, "60000")
    assert done.out in {"calm\n", "closed\n"}, done  # what it still sent may cost it the last word
    assert inside.curl("https://a.example/other").out == "hello /other"
    assert inside.run.daemon.spent() - began < 3
    assert "carry nothing" in inside.run.record("egress.tcp")["decision"]["reason"]
