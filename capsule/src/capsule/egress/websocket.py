"""The frames of a WebSocket, seen from the side: messages and bytes counted each way, why it closed, no placeholder.

Pure, after RFC 6455 §5. Toward the server bytes are passed on as they are, as long as they are frames of a client:
masked, of a known kind, with no reserved bit but that of an extension which was agreed on. What is none is refused, so
that nothing else is spoken behind an upgrade. With placeholders to look for, a frame toward the server that holds one
in any spelling is refused, and so is one that cannot be read (compressed). Toward the program, a value of a secret that
stands in a message becomes its placeholder, cut or filled up to the same length, also where frames of the message share
it: what may be the beginning of a value waits for the next frame, and so do frames between the two. So does one in a
ping, pong or close. With values to look for, a frame that cannot be read ends it. Not found: a value that two messages
share.

    seen = Frames(placeholders, echoes)
    seen.out(data)                  # "secret elsewhere: …": none of this data may go out
    seen.into(data)                 # the bytes that go to the program; none further when `seen.unreadable` says why
    seen.record()                   # {"messages_out": 3, …, "close_code": 1000, "closed_by": "program"}
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from capsule.egress.echoes import Echoes, EchoStream
from capsule.egress.placeholders import Placeholders, Scanner

REFUSED = 1008
"""The close code of a refusal: policy (RFC 6455 §7.4.1)."""
_KINDS = frozenset({0, 1, 2, 8, 9, 10})
_CLOSE = 8
_PACKED = 0x40
"""The one reserved bit that an extension uses (RFC 7692 §6)."""
_ASIDE = 125
"""Bytes of a ping, pong or close (RFC 6455 §5.5)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a frame.

    Attributes:
        kind: its opcode.
        readable: whether the frame has no reserved bits and is of a known kind.
        packed: whether it has the reserved bit of an extension, and is of a known kind.
        raw: the bytes as they came.
        plain: of a payload, unmasked; of a head, none.
        last: whether its frame is complete with it.
        ends: whether its message is.
    """

    kind: int
    readable: bool
    raw: bytes
    plain: bytes
    last: bool = False
    ends: bool = False
    packed: bool = False


class _Way:
    """One direction: where in a frame it is, and what went by."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.close: bytes | None = None
        self._head = bytearray()
        self._left = 0
        self._mask: bytes | None = None
        self._at = 0
        self._kind = 0
        self._readable = True
        self._final = False

    @property
    def left(self) -> int:
        """Bytes that the frame still has."""
        return self._left

    @property
    def between(self) -> bool:
        """Whether no frame is begun."""
        return not self._head and not self._left

    @property
    def masked(self) -> bool:
        """Whether the frame is masked, as none of a server is."""
        return self._mask is not None

    def feed(self, untrusted_data: bytes) -> Iterator[Piece]:
        """What the bytes are, in order: whole heads, and pieces of payloads."""
        rest = memoryview(untrusted_data)
        while rest:
            if self._left:
                raw = bytes(rest[: self._left])
                piece = self._plain(raw)
                rest = rest[len(piece) :]
                self._left -= len(piece)
                if self._kind == _CLOSE:
                    self.close = (self.close or b"") + piece
                else:
                    self.bytes += len(piece) if self._kind < _CLOSE else 0
                last = not self._left
                yield Piece(self._kind, self._readable, raw, piece, last, last and self._final)
                continue
            self._head += rest[:1]
            rest = rest[1:]
            if len(self._head) >= 2 and len(self._head) == _head_length(self._head[1]):
                head = bytes(self._head)
                readable, last = self._begin(), not self._left
                packed = head[0] & 0x70 == _PACKED and self._kind in _KINDS
                yield Piece(self._kind, readable, head, b"", last, last and self._final, packed)

    def _begin(self) -> bool:
        first, second = self._head[0], self._head[1]
        masked, short = second & 0x80, second & 0x7F
        size = {126: 2, 127: 8}.get(short, 0)
        self._left = int.from_bytes(self._head[2 : 2 + size], "big") if size else short
        self._mask = bytes(self._head[-4:]) if masked else None
        self._at = 0
        self._kind = first & 15
        self._final = bool(first & 0x80) and self._kind < _CLOSE
        self._head.clear()
        if self._kind == _CLOSE:
            self.close = self.close or b""
        elif first & 0x80 and self._kind < _CLOSE:
            self.messages += 1
        self._readable = not first & 0x70 and self._kind in _KINDS
        return self._readable

    def _plain(self, data: bytes) -> bytes:
        if self._mask is None:
            return data
        turned = self._mask[self._at % 4 :] + self._mask[: self._at % 4]
        key = (turned * (len(data) // 4 + 1))[: len(data)]
        self._at += len(data)
        return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")


def _head_length(untrusted_second: int) -> int:
    return 2 + {126: 2, 127: 8}.get(untrusted_second & 0x7F, 0) + (4 if untrusted_second & 0x80 else 0)


class Frames:
    """One WebSocket.

    Args:
        placeholders: what must not go out; None: nothing is looked for.
        echoes: values that the server may send back; None or empty: none.
        extended: the server chose an extension, which may use a reserved bit.

    Attributes:
        malformed: what the program sent is no frame of a client.
    """

    def __init__(
        self, placeholders: Placeholders | None, echoes: Echoes | None = None, *, extended: bool = False
    ) -> None:
        self._out, self._in = _Way(), _Way()
        self.malformed = False
        self._extended = extended
        self._echoes = echoes
        self._echo: EchoStream | None = echoes.stream(keep_length=True) if echoes else None
        self._fed = self._gone = 0  # bytes of payloads that came, and that went on
        self._waiting: deque[tuple[int, bytes]] = (
            deque()
        )  # heads and frames, and behind how many bytes they stand
        self._aside = bytearray()
        self._asides = 0
        self.unreadable: str | None = None
        self._closed_by: str | None = None
        self._scanners: tuple[Scanner, Scanner] | None = None
        if placeholders is not None:
            # A ping may stand between the pieces of a message, so the two are searched apart.
            self._scanners = (placeholders.scanner(None), placeholders.scanner(None))

    @property
    def can_close(self) -> bool:
        """Whether a frame of ours toward the program would be read as one."""
        return self._in.between and self._fed == self._gone

    def out(self, untrusted_data: bytes) -> str | None:
        """Bytes toward the server; why they must not go, or None."""
        problem: str | None = None
        for piece in self._out.feed(untrusted_data):
            if piece.kind == _CLOSE and self._closed_by is None:
                self._closed_by = "program"
            if problem is not None:
                continue
            if self._scanners is not None and not piece.readable:
                problem = (
                    "a frame with reserved bits or of a reserved kind cannot be searched for placeholders"
                )
            elif not piece.plain and (problem := self._no_frame(piece)) is not None:
                self.malformed = True
            elif self._scanners is not None and (
                seen := self._scanners[piece.kind >= _CLOSE].feed(piece.plain)
            ):
                names = ", ".join(sorted(seen))
                problem = f"secret elsewhere: the placeholder of {names} stands in a frame of a WebSocket"
        if problem is not None:
            self._closed_by = "capsule"
        return problem

    def _no_frame(self, head: Piece) -> str | None:
        """Why what has such a head is no frame of a client."""
        if not head.readable and not (self._extended and head.packed):
            return (
                "what it sent behind the upgrade is no frame of a WebSocket: reserved bits or a reserved kind"
            )
        if not self._out.masked:
            return "what it sent behind the upgrade is no frame of a client: it is not masked"
        if head.kind >= _CLOSE and self._out.left > _ASIDE:
            return f"a ping, pong or close has more than {_ASIDE} bytes"
        return None

    @property
    def redacted(self) -> int:
        """Values that were taken out of frames toward the program."""
        return (self._echo.count if self._echo is not None else 0) + self._asides

    def into(self, untrusted_data: bytes) -> bytes:
        """Bytes toward the program; what may go on now. What may be the beginning of a value waits for the rest."""
        found = bytearray()
        for piece in self._in.feed(untrusted_data):
            if piece.kind == _CLOSE and self._closed_by is None:
                self._closed_by = "server"
            if self._echo is None:
                continue
            if not piece.readable or self._in.masked or (piece.kind >= _CLOSE and self._in.left > _ASIDE):
                self.unreadable = "a frame of the server cannot be searched for values of secrets"
                self._closed_by = "capsule"
                return b""
            if piece.kind >= _CLOSE:
                self._aside += piece.raw
                if piece.last:
                    self._waiting.append((self._fed, self._taken_aside()))
            elif not piece.plain:
                self._waiting.append((self._fed, piece.raw))
            self._fed += len(piece.plain) if piece.kind < _CLOSE else 0
            payload = self._echo.feed(piece.plain) if piece.kind < _CLOSE and piece.plain else b""
            self._weave(found, payload + self._echo.end() if piece.ends else payload)
        return bytes(found) if self._echo is not None else untrusted_data

    def _weave(self, found: bytearray, payload: bytes) -> None:
        """Payload that may go on, with what stands before and within it; all lengths are as they came."""
        while True:
            while self._waiting and self._waiting[0][0] <= self._gone:
                found += self._waiting.popleft()[1]
            if not payload:
                return
            room = self._waiting[0][0] - self._gone if self._waiting else len(payload)
            part, payload = payload[:room], payload[room:]
            found += part
            self._gone += len(part)

    def _taken_aside(self) -> bytes:
        """A whole ping, pong or close without values."""
        assert self._echoes is not None
        frame, keeps = bytes(self._aside), 4 if self._aside[0] & 15 == _CLOSE else 2  # head, code of a close
        self._aside.clear()
        changed, count = self._echoes.replace(frame[keeps:], keep_length=True)
        self._asides += count
        return frame[:keeps] + changed

    def record(self) -> dict[str, Any]:
        """What is known of it, for the `websocket` section."""
        found: dict[str, Any] = {
            "messages_out": self._out.messages, "bytes_out": self._out.bytes,
            "messages_in": self._in.messages, "bytes_in": self._in.bytes,
        }  # fmt: skip
        if self._closed_by is not None:
            found["closed_by"] = self._closed_by
        sent = {"program": self._out.close, "server": self._in.close}.get(self._closed_by or "")
        if self._closed_by == "capsule":
            found["close_code"] = REFUSED
        elif sent is not None and len(sent) >= 2:
            found["close_code"] = int.from_bytes(sent[:2], "big")
        return found


def closing(reason: str) -> bytes:
    """The close frame of a refusal, unmasked as a server's."""
    text = reason.encode()[:123].decode("utf-8", "ignore").encode()
    payload = REFUSED.to_bytes(2, "big") + text
    return bytes([0x88, len(payload)]) + payload
