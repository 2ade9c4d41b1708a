from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.model.sse import MAX_EVENT, Event, EventStream


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        (b"data: a\n\n", [Event("message", "a")]),
        (b"\xef\xbb\xbfdata:a\r\rdata: b\r\n\r\n", [Event("message", "a"), Event("message", "b")]),
        (b"event: x\ndata: a\ndata\ndata:  b\n\n", [Event("x", "a\n\n b")]),
        (b": comment\nid: 1\nretry: 9\nevent: lost\n\ndata: a\n\n", [Event("message", "a")]),
        (b"data: never ended\n", []),
        (b"data: \xff\n\n", [Event("message", "�")]),
        (b"\n\n\r\n\r\r", []),
    ],
)
def test_streams(sent: bytes, events: list[Event]) -> None:
    assert EventStream().feed(sent) == events
    stream = EventStream()
    assert [event for byte in sent for event in stream.feed(bytes([byte]))] == events


@given(
    st.lists(
        st.sampled_from([b"data: a", b"event: e", b"\n", b"\r", b"\r\n", b":", b"data", b"\xef\xbb\xbf"])
    ),
    st.data(),
)
def test_any_portions_give_the_same(parts: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(parts)
    whole, stream = EventStream().feed(sent), EventStream()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    edges = [0, *cuts, len(sent)]
    pieces = [sent[a:b] for a, b in itertools.pairwise(edges)]
    assert [event for piece in pieces for event in stream.feed(piece)] == whole


def test_an_event_without_end_is_given_up() -> None:
    stream = EventStream()
    for _ in range(MAX_EVENT // 65536 + 2):
        assert stream.feed(b"data: " + b"x" * 65530) == []
    assert stream.overflown
    assert stream.feed(b"\n\ndata: a\n\n") == []


def test_an_event_of_many_lines_is_given_up() -> None:
    stream = EventStream()
    for _ in range(MAX_EVENT // 1000 + 10):
        stream.feed(b"data: " + b"x" * 994 + b"\n")
    assert stream.overflown
    assert stream.feed(b"\ndata: a\n\n") == []


def test_the_last_id_is_of_the_last_whole_event_and_retry_a_number() -> None:
    stream = EventStream()
    assert [event.data for event in stream.feed(b"id: a\ndata: 1\n\nid: b\n")] == ["1"]
    assert (stream.last_id, stream.retry_ms) == ("a", None)
    assert stream.feed(b"\nretry: 1500\nretry: x\nretry: 99999999999\nid: c\0d\ndata:\n\n") == [
        Event("message", "")
    ]
    assert (stream.last_id, stream.retry_ms) == ("b", 1500)


def test_an_event_that_ends_in_the_piece_that_makes_it_too_long_is_given_up() -> None:
    for sent in (b"data: abcdefghij\n\n", b"data: abcd\ndata: efgh\n\n"):
        stream = EventStream(12)
        assert stream.feed(b"data: abcdef\n\n" + sent + b"data: a\n\n") == [Event("message", "abcdef")]
        assert stream.overflown


def test_a_stream_that_is_taken_up_begins_where_it_was() -> None:
    stream = EventStream(14)
    stream.feed(b"id: a\nretry: 5\n\n")
    again = stream.resumed()
    assert (again.last_id, again.retry_ms) == ("a", 5)
    assert again.feed(b"data: 1\n\n") == [Event("message", "1")]
    assert again.last_id == "a"
    again.feed(b"data: abcdefghij\n\n")
    assert again.overflown
    assert not again.resumed().overflown
