"""Frames: the vectors, every cut, and everything that is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsem.wire.frame import (
    DATA_LIMIT,
    FRAME_LIMIT,
    MESSAGE_LIMIT,
    Credit,
    Data,
    End,
    Frame,
    FrameError,
    FrameReader,
    Message,
    Reset,
    encode,
)

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "vectors/wire/frames.json").read_text(encoding="utf-8")
)
STREAMS = st.integers(1, (1 << 32) - 1)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Message, st.binary(min_size=2, max_size=300)),
    st.builds(Data, STREAMS, st.binary(min_size=1, max_size=300)),
    st.builds(End, STREAMS),
    st.builds(Credit, STREAMS, STREAMS),
    st.builds(Reset, STREAMS),
)


def written(frame: Frame) -> dict[str, Any]:
    """A frame as the vectors write it."""
    if isinstance(frame, Message):
        return {"message": frame.body.decode()}
    if isinstance(frame, Data):
        return {"data": {"stream": frame.stream, "content": frame.content.hex()}}
    if isinstance(frame, Credit):
        return {"credit": {"stream": frame.stream, "amount": frame.amount}}
    return {"end" if isinstance(frame, End) else "reset": frame.stream}


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["name"])
def test_valid(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["bytes"])
    frames = FrameReader().feed(data)
    assert [written(frame) for frame in frames] == case["frames"]
    assert data.startswith(b"".join(encode(frame) for frame in frames))


@pytest.mark.parametrize("case", VECTORS["malformed"], ids=lambda case: case["name"])
def test_malformed(case: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(bytes.fromhex(case["bytes"]))


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 40), max_size=80))
def test_cuts_do_not_matter(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, frames))
    reader = FrameReader()
    found, at = [], 0
    for cut in [*cuts, len(data)]:
        found += reader.feed(data[at : at + cut])
        at += cut
    assert found == frames
    assert not reader.midway


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    reader = FrameReader()
    try:
        frames = reader.feed(data)
    except FrameError:
        return
    again = b"".join(map(encode, frames))
    assert data.startswith(again)
    assert reader.midway == (len(again) < len(data))


def test_limits_to_the_byte() -> None:
    longest: tuple[Frame, ...] = (Message(b"x" * MESSAGE_LIMIT), Data(1, b"x" * DATA_LIMIT))
    for frame in longest:
        assert FrameReader().feed(encode(frame)) == [frame]
    wrong: tuple[Frame, ...] = (
        Message(b"x" * (MESSAGE_LIMIT + 1)),
        Data(1, b"x" * (DATA_LIMIT + 1)),
        Data(1, b""),
        Credit(1, 0),
    )
    for frame in wrong:
        with pytest.raises(ValueError, match="allowed"):
            encode(frame)
    for kind, length in ((1, MESSAGE_LIMIT + 1), (2, DATA_LIMIT + 5)):
        with pytest.raises(FrameError, match="allowed"):
            FrameReader().feed((length + 1).to_bytes(4, "little") + bytes((kind,)) + b"x" * length)
    with pytest.raises(ValueError, match="stream"):
        encode(End(0))


def test_nothing_is_kept_for_an_announced_length() -> None:
    reader = FrameReader()
    with pytest.raises(FrameError, match=str(FRAME_LIMIT)):
        reader.feed((FRAME_LIMIT + 1).to_bytes(4, "little"))
