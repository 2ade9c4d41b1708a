"""What a monitor and its proxy say to each other (docs/formats/proxy.md), typed.

Frames are those of `capsem.wire.frame`, messages only; descriptors come beside a message, in the order of messages that
have one. The proxy parses hostile bytes, so what it says is hostile too. Pure. Refuses an unknown type, an unknown or
missing field, a value out of its bounds.

    encode(Dial(id=1, host="example.com", port=443))
    decode_proxy(frame)                                # Ready | Record | Dial | …
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from capsem.errors import WireError
from capsem.vm.mcp import NAME
from capsem.wire.frame import Message
from capsem.wire.frame import encode as encode_frame

Number = Annotated[int, msgspec.Meta(ge=1, le=(1 << 62))]
HostText = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Text = Annotated[str, msgspec.Meta(max_length=65536)]


class _Said(msgspec.Struct, tag_field="type", tag=str.lower, forbid_unknown_fields=True, frozen=True):
    """A message; its type is the name of its class in small letters."""


# What the monitor says.


class Begin(_Said, frozen=True):
    """The first. Beside it the guest's ports 5002 and 5003 and a file with a `Beginning`."""


class Dialled(_Said, frozen=True):
    """The answer to a `dial`: connected to `address`, with the socket beside it, or why not."""

    id: Number
    address: str | None
    error: str | None
    forbidden: bool = False


class Noted(_Said, frozen=True):
    """Everything that was recorded before this `note` is on the log."""

    id: Number


class Served(_Said, frozen=True):
    """The answer to a `serve`: the server runs, with a socket beside it that is its input and output, or why not."""

    id: Number
    error: str | None


class Answer(_Said, frozen=True):
    """What a person said to an ask."""

    id: str
    allow: bool
    scope: Literal["once", "path", "host"] = "once"
    for_ms: int | None = None


class Secret(_Said, frozen=True):
    """A fresh value."""

    name: str
    value: str
    expires: str | None = None

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r})"


# What the proxy says.


class Ready(_Said, frozen=True):
    """It serves; with problems everything is refused."""

    rules: int
    problems: tuple[Text, ...]


class Record(_Said, frozen=True):
    """An entry for the log."""

    entry: dict[str, Any]


class Note(_Said, frozen=True):
    """Asks for a `noted`."""

    id: Number


class Dial(_Said, frozen=True):
    """Asks for a connection; `private`: what granted it may lead to an address that is not public."""

    id: Number
    host: HostText
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    private: bool


class Serve(_Said, frozen=True):
    """Asks for an MCP server of this name to be started."""

    id: Number
    name: Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]


class Over(_Said, frozen=True):
    """Nobody speaks to the server of that `serve` any more."""

    id: Number


class Ask(_Said, frozen=True):
    """A person is to be asked."""

    ask: dict[str, Any]


class Asked(_Said, frozen=True):
    """An ask is answered or over."""

    id: str
    outcome: str


class NeedSecret(_Said, frozen=True, tag="need_secret"):
    """A secret's value has expired."""

    name: str


class Lost(_Said, frozen=True):
    """The guest's port is over: its agent broke the form, or hung up."""

    reason: Text


MonitorSaid = Begin | Dialled | Served | Noted | Answer | Secret
ProxySaid = Ready | Record | Note | Dial | Serve | Over | Ask | Asked | NeedSecret | Lost
_MONITOR: msgspec.json.Decoder[MonitorSaid] = msgspec.json.Decoder(MonitorSaid)
_PROXY: msgspec.json.Decoder[ProxySaid] = msgspec.json.Decoder(ProxySaid)
_ENCODER = msgspec.json.Encoder()


class Signer(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The authority of one session, PEM, and what it may sign for; None: anything."""

    certificate: str
    key: str
    hosts: tuple[str, ...] | None

    def __repr__(self) -> str:
        return "Signer(…)"


class Server(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An MCP server that the machine may use, and the place that says so; how one is started is the monitor's.

    `changes`: what becomes of a tool that it lists again as another than at first. `url`: of one that is not started;
    `headers` of requests there have `${secrets.NAME}` for what only the session knows.
    """

    name: str
    file: str
    line: int
    changes: Literal["refuse", "pass"] = "refuse"
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    transport: Literal["http", "sse"] = "http"


class Beginning(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the session is: of the form that `capsule-egress` is told (docs/formats/egress.md).

    Beside it: its MCP servers, and the names of the machine.
    """

    session: dict[str, Any]
    signer: Signer
    servers: tuple[Server, ...] = ()
    names: tuple[str, ...] = ()


def encode(said: MonitorSaid | ProxySaid) -> bytes:
    """The frame of a message.

    Raises:
        ValueError: it is too large for a frame.
    """
    return encode_frame(Message(_ENCODER.encode(said)))


def decode_monitor(untrusted: Message) -> MonitorSaid:
    """A monitor's message.

    Raises:
        WireError: it is not of the documented form.
    """
    said: MonitorSaid = _decoded(_MONITOR, untrusted, "not a monitor's message")
    return said


def decode_proxy(untrusted: Message) -> ProxySaid:
    """A proxy's message.

    Raises:
        WireError: it is not of the documented form.
    """
    said: ProxySaid = _decoded(_PROXY, untrusted, "not a proxy's message")
    return said


def _decoded(decoder: msgspec.json.Decoder[Any], untrusted: Message, wrong: str) -> Any:
    try:
        return decoder.decode(untrusted.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{wrong}: {error}", next_step="see docs/formats/proxy.md") from None


def encode_beginning(beginning: Beginning) -> bytes:
    """As it stands in the file beside `begin`."""
    return _ENCODER.encode(beginning)


def decode_beginning(untrusted: bytes) -> Beginning:
    """What stands in the file beside `begin`.

    Raises:
        WireError: it is not of the documented form.
    """
    decoder: msgspec.json.Decoder[Beginning] = msgspec.json.Decoder(Beginning)
    return _decoded(decoder, Message(untrusted), "the file beside `begin` does not describe a session")  # type: ignore[no-any-return]
