"""Frames between the host and a machine's agent (docs/formats/wire.md): four bytes of length, a kind, a payload.

Pure. Refuses a length that is zero or over the limit before anything is kept for it, an unknown kind, a payload of the
wrong size, a stream 0. What is refused ends the connection: a stream of bytes has no next frame after a bad one.

    reader = FrameReader()
    for frame in reader.feed(untrusted_data):      # Message | Data | End | Credit | Reset
        ...
    encode(Data(stream=5, content=b"text"))
"""

from __future__ import annotations

from dataclasses import dataclass

from capsem.errors import CapsemError

VERSION = 1
FRAME_LIMIT = 1 << 20
"""Bytes a frame may have after its length."""
MESSAGE_LIMIT = 512 << 10
"""Bytes the JSON text of a message may have."""
DATA_LIMIT = 256 << 10
"""Bytes of content a data frame may have."""
STREAM_LIMIT = (1 << 32) - 1
"""The greatest number of a stream, and of bytes in one credit."""

_MESSAGE, _DATA, _END, _CREDIT, _RESET = 1, 2, 3, 4, 5


class FrameError(CapsemError):
    """What came is not of the documented form; the connection ends."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message, next_step="the machine cannot be trusted to go on: delete it and create another"
        )


@dataclass(frozen=True, slots=True)
class Message:
    """One JSON object, not looked at yet (`capsem.wire.guest`)."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """Content of a stream: 1 byte to DATA_LIMIT."""

    stream: int
    content: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The sender sends no more on this stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Credit:
    """The receiver of a stream has taken `amount` bytes."""

    stream: int
    amount: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream is over in both directions."""

    stream: int


Frame = Message | Data | End | Credit | Reset


def _number(payload: bytes | memoryview, at: int) -> int:
    return int.from_bytes(payload[at : at + 4], "little")


def _frame(kind: int, payload: memoryview) -> Frame:
    size = len(payload)
    if kind == _MESSAGE:
        if not 2 <= size <= MESSAGE_LIMIT:
            raise FrameError(f"a message of {size} bytes; from 2 to {MESSAGE_LIMIT} are allowed")
        return Message(bytes(payload))
    if not _DATA <= kind <= _RESET:
        raise FrameError(f"a frame of the unknown kind {kind}")
    exact = {_END: 4, _CREDIT: 8, _RESET: 4}.get(kind)
    if exact is None:
        if not 5 <= size <= DATA_LIMIT + 4:
            raise FrameError(f"a data frame of {size} bytes; from 5 to {DATA_LIMIT + 4} are allowed")
    elif size != exact:
        raise FrameError(f"a frame of kind {kind} with {size} bytes; it has {exact}")
    stream = _number(payload, 0)
    if stream == 0:
        raise FrameError("a frame of stream 0, which is none")
    if kind == _DATA:
        return Data(stream, bytes(payload[4:]))
    if kind == _END:
        return End(stream)
    if kind == _RESET:
        return Reset(stream)
    amount = _number(payload, 4)
    if amount == 0:
        raise FrameError("a credit of 0 bytes")
    return Credit(stream, amount)


class FrameReader:
    """Bytes in, frames out; keeps at most one unfinished frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, untrusted_data: bytes) -> list[Frame]:
        """The frames that `untrusted_data` completes, in order.

        Raises:
            FrameError: see the module. Frames before the bad one are not told: nothing of that connection counts now.
        """
        self._buffer += untrusted_data
        frames: list[Frame] = []
        at = 0
        with memoryview(self._buffer) as view:
            while len(view) - at >= 4:
                length = _number(view, at)
                if not 1 <= length <= FRAME_LIMIT:
                    raise FrameError(f"a frame of {length} bytes; from 1 to {FRAME_LIMIT} are allowed")
                if len(view) - at < 4 + length:
                    break
                with view[at + 5 : at + 4 + length] as payload:
                    frames.append(_frame(view[at + 4], payload))
                at += 4 + length
        del self._buffer[:at]
        return frames

    @property
    def midway(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._buffer)


def _stream(frame: Data | End | Credit | Reset) -> bytes:
    if not 1 <= frame.stream <= STREAM_LIMIT:
        raise ValueError(f"stream {frame.stream} is not from 1 to {STREAM_LIMIT}")
    return frame.stream.to_bytes(4, "little")


def encode(frame: Frame) -> bytes:
    """The bytes of one frame.

    Raises:
        ValueError: the frame is not one that the other side would take.
    """
    if isinstance(frame, Message):
        kind, payload = _MESSAGE, frame.body
        if not 2 <= len(payload) <= MESSAGE_LIMIT:
            raise ValueError(f"a message of {len(payload)} bytes; from 2 to {MESSAGE_LIMIT} are allowed")
    elif isinstance(frame, Data):
        if not 1 <= len(frame.content) <= DATA_LIMIT:
            raise ValueError(f"{len(frame.content)} bytes of content; from 1 to {DATA_LIMIT} are allowed")
        kind, payload = _DATA, _stream(frame) + frame.content
    elif isinstance(frame, Credit):
        if not 1 <= frame.amount <= STREAM_LIMIT:
            raise ValueError(f"a credit of {frame.amount} bytes; from 1 to {STREAM_LIMIT} are allowed")
        kind, payload = _CREDIT, _stream(frame) + frame.amount.to_bytes(4, "little")
    else:
        kind, payload = (_END if isinstance(frame, End) else _RESET), _stream(frame)
    return (len(payload) + 1).to_bytes(4, "little") + bytes((kind,)) + payload
