from __future__ import annotations

import h2.config
import h2.connection
import h2.events
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.joining import joined


def data(stream: int, text: bytes, padding: int = 0) -> h2.events.DataReceived:
    return h2.events.DataReceived(stream_id=stream, data=text, flow_controlled_length=len(text) + padding)


ENDED = h2.events.StreamEnded(stream_id=1)
PING = h2.events.PingReceived(ping_data=b"12345678")


def test_data_of_one_stream_that_nothing_comes_between_is_one() -> None:
    assert joined([data(1, b"a"), data(1, b"bc", 3), ENDED]) == [data(1, b"abc", 3), ENDED]
    apart = [data(1, b"a"), data(3, b"b"), data(1, b"c"), PING, data(1, b"d")]
    assert joined(apart) == apart
    assert joined([]) == []


def test_empty_data_is_counted_one_by_one() -> None:
    flood = [data(1, b""), data(1, b""), data(1, b"x"), data(1, b""), data(1, b"y")]
    assert joined(flood) == flood


@given(st.lists(st.tuples(st.sampled_from((1, 3)), st.binary(max_size=3), st.integers(0, 2))))
def test_no_byte_and_no_window_is_lost(frames: list[tuple[int, bytes, int]]) -> None:
    events = [data(*frame) for frame in frames]
    found = [event for event in joined(events) if isinstance(event, h2.events.DataReceived)]
    for stream in 1, 3:
        before, after = ([one for one in every if one.stream_id == stream] for every in (events, found))
        assert b"".join(one.data for one in before) == b"".join(one.data for one in after)
        lengths = [sum(one.flow_controlled_length for one in every) for every in (before, after)]
        assert lengths[0] == lengths[1]


def test_what_h2_makes_of_a_body_in_frames() -> None:
    client, server = (
        h2.connection.H2Connection(h2.config.H2Configuration(client_side=side)) for side in (True, False)
    )
    client.initiate_connection()
    server.initiate_connection()
    head = [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "a.example")]
    client.send_headers(1, head)
    for number in range(3):
        client.send_data(1, b"%d" % number, end_stream=number == 2, pad_length=number or None)
    came = joined(server.receive_data(client.data_to_send()))
    [body] = [event for event in came if isinstance(event, h2.events.DataReceived)]
    assert body.data == b"012"
    assert body.flow_controlled_length == 3 + 2 + 3  # padding has a byte that says how long it is
    assert body.stream_ended is not None
    assert isinstance(came[-1], h2.events.StreamEnded)
