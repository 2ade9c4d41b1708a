"""The session socket's frames: four bytes of length, one JSON object, every field known.

Pure. Refuses a frame over its limit, an unknown type, an unknown or missing field: any of them ends the session,
because supervisor and egress are of one installation and a surprise is a fault, not a dialect.

    reader = FrameReader(SUPERVISOR_LIMIT)
    for frame in reader.feed(data):          # Session | Flow | Sources | Secret | Event | Answer | Authority
        ...
    encode({"type": "ready", "rules": 0, "problems": []})
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from capsule.errors import CapsuleError

VERSION = 1
SUPERVISOR_LIMIT = 16 << 20
"""Bytes a frame of the supervisor may have."""
EGRESS_LIMIT = 256 << 10
"""Bytes a frame of egress may have."""


class FrameError(CapsuleError):
    """What came is not a frame of the documented form; the session ends."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message, next_step="supervisor and egress must be of one installation; restart capsule-egress"
        )


class Host(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A host entry of the plan."""

    host: str
    ports: tuple[int, ...]
    methods: tuple[str, ...] | None
    paths: tuple[str, ...] | None
    inspect: Literal["auto", "always", "never"]
    private: bool
    origin: Any = None
    credential: str | None = None


class Budget(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a run may use; None is no bound."""

    requests: int | None = None
    bytes: int | None = None
    tokens: int | None = None
    microdollars: int | None = None


class Upstream(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A name that is dialled at an address of the policy's author."""

    host: str
    address: str
    origin: Any = None


class SecretPlan(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where a secret goes; its value comes beside the plan."""

    name: str
    to: tuple[str, ...]
    as_: Literal["header", "basic", "query", "body"] = msgspec.field(name="as")
    field: str | None = None
    user: str | None = None
    env: str | None = None
    origin: Any = None
    from_: Any = msgspec.field(name="from", default=None)


class Egress(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`network.egress` of a plan."""

    unlisted: Literal["deny", "ask"]
    hosts: tuple[Host, ...]
    budget: Budget
    upstreams: tuple[Upstream, ...]
    authorities: tuple[Any, ...]
    proxy: str | None
    secrets: tuple[SecretPlan, ...]
    rules: tuple[Any, ...]
    detect: tuple[Any, ...]


class Source(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A file that the supervisor read: rules, detection or an authority; `problem`: why it could not be."""

    path: str
    text: str
    problem: str | None = None


class SecretValue(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A secret's value and what stands for it inside."""

    value: str
    placeholder: str
    expires: str | None = None

    def __repr__(self) -> str:
        return f"SecretValue(placeholder={self.placeholder!r})"  # the value is in no traceback and in no log


class Session(msgspec.Struct, tag_field="type", tag="session", forbid_unknown_fields=True, frozen=True):
    """The first frame of a run."""

    version: Literal[1]
    run: str
    command: tuple[str, ...]
    cwd: str
    policy: Any
    egress: Egress
    sources: tuple[Source, ...]
    secrets: dict[str, SecretValue]
    ports: tuple[int, ...]
    interactive: bool


class Authority(msgspec.Struct, tag_field="type", tag="authority", forbid_unknown_fields=True, frozen=True):
    """The answer to `need_authority`; key and certificate are its two descriptors."""


class Flow(msgspec.Struct, tag_field="type", tag="flow", forbid_unknown_fields=True, frozen=True):
    """Who made a connection."""

    source: str
    target: str
    pid: int
    program: str
    argv: tuple[str, ...]


class Sources(msgspec.Struct, tag_field="type", tag="sources", forbid_unknown_fields=True, frozen=True):
    """A file changed; the whole list again."""

    sources: tuple[Source, ...]


class Secret(msgspec.Struct, tag_field="type", tag="secret", forbid_unknown_fields=True, frozen=True):
    """A fresh value."""

    name: str
    value: str
    expires: str | None = None

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r})"


class Event(msgspec.Struct, tag_field="type", tag="event", forbid_unknown_fields=True, frozen=True):
    """An entry of the run, for detection."""

    entry: dict[str, Any]


class Answer(msgspec.Struct, tag_field="type", tag="answer", forbid_unknown_fields=True, frozen=True):
    """What the person at the terminal said to an ask."""

    id: str
    allow: bool
    scope: Literal["once", "path", "host"] = "once"
    for_ms: int | None = None


Frame = Session | Authority | Flow | Sources | Secret | Event | Answer
_DECODER: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_ENCODER = msgspec.json.Encoder()


class FrameReader:
    """Bytes in, frames out."""

    def __init__(self, limit: int = SUPERVISOR_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, untrusted_data: bytes) -> Iterator[Frame]:
        """The frames that `untrusted_data` completes.

        Raises:
            FrameError: see the module.
        """
        buffer = self._buffer
        buffer += untrusted_data
        while len(buffer) >= 4:
            length = int.from_bytes(buffer[:4], "big")
            if length > self._limit:
                raise FrameError(f"a frame of {length} bytes; at most {self._limit} are allowed")
            if len(buffer) < 4 + length:
                return
            body = bytes(buffer[4 : 4 + length])
            del buffer[: 4 + length]
            try:
                frame = _DECODER.decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise FrameError(f"not a frame: {error}") from None
            yield frame

    @property
    def midway(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._buffer)


def _whole(value: object) -> object:
    """The same with `?` for what UTF-8 cannot hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole(name): _whole(item) for name, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else value


def encode(message: object) -> bytes:
    """One frame of egress; half a character in a text becomes `?`.

    Raises:
        FrameError: it is longer than egress may send.
    """
    try:
        body = _ENCODER.encode(message)
    except UnicodeEncodeError:  # a record must not be lost because a peer sent half a character
        body = _ENCODER.encode(_whole(message))
    if len(body) > EGRESS_LIMIT:
        raise FrameError(f"a frame of {len(body)} bytes; egress sends at most {EGRESS_LIMIT}")
    return len(body).to_bytes(4, "big") + body
