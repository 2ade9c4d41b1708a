"""The messages between the host and a machine's agent (docs/formats/wire.md), typed.

Pure. Refuses an unknown type, an unknown or missing field, a value out of its bounds, and what the other side may not
say on that port. States (new, ready) are the agent's and the channel's to keep.

    encode(Ping(id=1))                                # bytes of a frame
    decode(5000, frame)                               # Hello | Ready | Pong | Started | …: what a guest may say there
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import msgspec

from capsem.wire.frame import FrameError, Message
from capsem.wire.frame import encode as encode_frame

CONTROL, TERMINAL, NETWORK, MCP, LIFECYCLE, BULK = 5000, 5001, 5002, 5003, 5004, 5005
PORTS = (CONTROL, TERMINAL, NETWORK, MCP, LIFECYCLE, BULK)
WINDOWS = {TERMINAL: 64 << 10, NETWORK: 128 << 10, MCP: 128 << 10, BULK: 1 << 20}
"""Bytes that may be on the way in one direction of a stream, by port."""
JOB_LIMIT = 64
"""Jobs that live at once."""
ID_LIMIT = (1 << 30) - 1
ARGUMENTS_LIMIT = 2048
"""Characters of a program's arguments, together, that the guest reports."""
INPUT, OUTPUT, ERRORS = 0, 1, 2
"""Which stream of a job."""

Id = Annotated[int, msgspec.Meta(ge=1, le=ID_LIMIT)]
Stream = Annotated[int, msgspec.Meta(ge=1, le=(1 << 32) - 1)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Pid = Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]
User = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 2)]
Cells = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
Authority = Annotated[str, msgspec.Meta(max_length=64 << 10)]
HostName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"^/[^\x00]{0,4094}\Z")]


def stream_of(job: int, which: int) -> int:
    """The number of a job's stream; `which` is INPUT, OUTPUT or ERRORS (a terminal has INPUT only, both ways)."""
    return 4 * job + which


class _Said(msgspec.Struct, tag_field="type", tag=str.lower, forbid_unknown_fields=True, frozen=True):
    """A message; its type is the name of its class in small letters."""


# What the host says.


class Identity(_Said, frozen=True):
    """Who this machine is from now on."""

    version: Literal[1]
    entropy: str
    hostname: HostName
    wall_clock_ns: Natural
    authority: Authority | None


class Ping(_Said, frozen=True):
    """Alive?"""

    id: Id


class Size(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A terminal's size in cells."""

    rows: Cells
    columns: Cells


class Exec(_Said, frozen=True):
    """Run a program."""

    id: Id
    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=4096)]
    env: dict[str, str]
    cwd: AbsolutePath
    uid: User
    gid: User
    stdin: bool
    tty: Size | None
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] | None


class Signal(_Said, frozen=True):
    """To a job's process group."""

    id: Id
    number: Annotated[int, msgspec.Meta(ge=1, le=64)]


class Resize(_Said, frozen=True):
    """A terminal's new size."""

    id: Id
    rows: Cells
    columns: Cells


class File(_Said, frozen=True, omit_defaults=True):
    """One operation on one path, done as that user. An older agent takes neither `to` nor `after`."""

    id: Id
    op: Literal["stat", "list", "mkdir", "remove", "read", "write", "rename"]
    path: AbsolutePath
    uid: User
    gid: User
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o1777)] | None
    recursive: bool
    to: AbsolutePath | None = None
    after: Text | None = None

    def __post_init__(self) -> None:
        """Each has its own fields."""
        if (self.op == "rename") != (self.to is not None):
            raise ValueError("'to' is of a rename, and a rename has it")
        if self.after is not None and self.op != "list":
            raise ValueError("'after' is of a list")


class Sync(_Said, frozen=True):
    """Write the file systems."""

    id: Id


class Shutdown(_Said, frozen=True):
    """End the machine."""

    id: Id


class Reboot(_Said, frozen=True):
    """Start the machine again."""

    id: Id


class Watch(_Said, frozen=True):
    """What is to be reported."""

    id: Id
    processes: bool
    changes: Annotated[tuple[AbsolutePath, ...], msgspec.Meta(max_length=16)]


class Prefetch(_Said, frozen=True):
    """Files that are to be read, so that they are in the machine's memory."""

    id: Id
    paths: Annotated[tuple[AbsolutePath, ...], msgspec.Meta(max_length=64)]


class Freeze(_Said, frozen=True):
    """Everything that the host asked to run stands still; after the answer nothing comes on that port."""

    id: Id


class Thaw(_Said, frozen=True):
    """It runs on, in the same conversation."""

    id: Id
    wall_clock_ns: Natural


class Serve(_Said, frozen=True):
    """The host reads this port from here on; before it the agent sends nothing there."""


class Opened(_Said, frozen=True):
    """A stream of the guest may go on."""

    stream: Stream


class Refused(_Said, frozen=True):
    """A stream of the guest is refused."""

    stream: Stream
    reason: Text


# What the guest says.


class Hello(_Said, frozen=True):
    """First on a connection."""

    version: Literal[1]
    agent: Text
    boot_id: Text
    kernel: Text
    capabilities: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)]


class Ready(_Said, frozen=True):
    """The identity is in force."""

    version: Literal[1]
    agent: Text
    boot_id: Text
    kernel: Text
    capabilities: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)]


class Pong(_Said, frozen=True):
    """Alive."""

    id: Id


class Started(_Said, frozen=True):
    """A job runs."""

    id: Id
    pid: Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]


class Exited(_Said, frozen=True):
    """A job's first process has ended."""

    id: Id
    code: Annotated[int, msgspec.Meta(ge=0, le=255)] | None
    signal: Annotated[int, msgspec.Meta(ge=1, le=127)] | None
    timed_out: bool
    cpu_ms: Natural
    max_rss_bytes: Natural

    def __post_init__(self) -> None:
        """One of code and signal is null."""
        if (self.code is None) == (self.signal is None):
            raise ValueError("exactly one of code and signal must be null")


class Result(_Said, frozen=True):
    """A file operation's answer; `value` is looked at by who asked."""

    id: Id
    value: dict[str, Any]


class Failed(_Said, frozen=True):
    """What was asked for did not happen."""

    id: Id
    errno: Annotated[str, msgspec.Meta(pattern=r"^E[A-Z0-9]{1,30}\Z")]
    reason: Text


class Fault(_Said, frozen=True):
    """The host said what is not of the form; the agent hears this port no more until the host has hung up."""

    reason: Text


class Done(_Said, frozen=True):
    """What the host asked of the machine as a whole is done."""

    id: Id


class Open(_Said, frozen=True):
    """A program of the guest connected to something."""

    stream: Stream
    kind: Literal["tcp", "dns", "mcp"]
    address: Text | None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None
    pid: Natural | None
    uid: User | None
    program: Text | None


class Ran(_Said, frozen=True):
    """A process of the guest runs a program now, as the guest says."""

    pid: Pid
    parent: Natural | None
    uid: User | None
    program: Annotated[str, msgspec.Meta(max_length=1024)] | None
    argv: Annotated[tuple[Text, ...], msgspec.Meta(max_length=32)] | None
    cut: bool

    def __post_init__(self) -> None:
        """The arguments are bounded together."""
        if self.argv is not None and sum(map(len, self.argv)) > ARGUMENTS_LIMIT:
            raise ValueError(f"arguments of more than {ARGUMENTS_LIMIT} characters together")


class Ended(_Said, frozen=True):
    """A process that was told of has ended, as the guest says."""

    pid: Pid
    code: Annotated[int, msgspec.Meta(ge=0, le=255)] | None
    signal: Annotated[int, msgspec.Meta(ge=1, le=127)] | None

    def __post_init__(self) -> None:
        """One of code and signal is null."""
        if (self.code is None) == (self.signal is None):
            raise ValueError("exactly one of code and signal must be null")


class Change(_Said, frozen=True):
    """A name in a watched directory, as the guest says."""

    what: Literal["create", "write", "remove", "rename", "attributes"]
    path: AbsolutePath
    from_: AbsolutePath | None = msgspec.field(name="from")

    def __post_init__(self) -> None:
        """A rename has a name before, and nothing else has."""
        if (self.from_ is None) == (self.what == "rename"):
            raise ValueError("of a rename 'from' is there, of anything else it is null")


class Lost(_Said, frozen=True):
    """Reports that were not sent, or directories that are not watched."""

    what: Literal["processes", "changes", "directories"]
    count: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


Report = Ran | Ended | Change | Lost
"""What the guest tells of itself."""

HostMessage = (
    Identity
    | Ping
    | Exec
    | Signal
    | Resize
    | File
    | Sync
    | Shutdown
    | Reboot
    | Watch
    | Prefetch
    | Freeze
    | Thaw
    | Serve
    | Opened
    | Refused
)
GuestMessage = (
    Hello
    | Ready
    | Pong
    | Started
    | Exited
    | Result
    | Failed
    | Fault
    | Done
    | Open
    | Ran
    | Ended
    | Change
    | Lost
)

_ANYWHERE: tuple[type, ...] = (Done, Failed, Fault)
_STREAMS_FROM_GUEST: tuple[type, ...] = (Open, *_ANYWHERE)
MAY_SAY: dict[int, tuple[type, ...]] = {
    CONTROL: (Hello, Ready, Pong, Started, Exited, Result, *_ANYWHERE),
    TERMINAL: _ANYWHERE,
    NETWORK: _STREAMS_FROM_GUEST,
    MCP: _STREAMS_FROM_GUEST,
    LIFECYCLE: (Ran, Ended, Change, Lost, *_ANYWHERE),
    BULK: _ANYWHERE,
}
"""What a guest may say, by port."""

_GUEST: msgspec.json.Decoder[GuestMessage] = msgspec.json.Decoder(GuestMessage)
_HOST: msgspec.json.Decoder[HostMessage] = msgspec.json.Decoder(HostMessage)
_ENCODER = msgspec.json.Encoder()


def decode(port: int, untrusted: Message) -> GuestMessage:
    """A guest's message on that port.

    Raises:
        FrameError: it is not of the documented form, or not one that a guest says on that port.
    """
    try:
        said = _GUEST.decode(untrusted.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"port {port}: not a message: {error}") from None
    if not isinstance(said, MAY_SAY[port]):
        raise FrameError(f"port {port}: a guest does not say '{type(said).__name__.lower()}' there")
    return said


def decode_host(untrusted: Message) -> HostMessage:
    """A host's message, as the agent takes it (for vectors and simulators).

    Raises:
        FrameError: it is not of the documented form.
    """
    try:
        said = _HOST.decode(untrusted.body)
        if isinstance(said, Identity):
            _entropy(said.entropy)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"not a message: {error}") from None
    return said


def _entropy(text: str) -> bytes:
    entropy = base64.b64decode(text, validate=True)
    if not 32 <= len(entropy) <= 512:
        raise ValueError(f"{len(entropy)} bytes of entropy; from 32 to 512 are allowed")
    return entropy


def identity(entropy: bytes, hostname: str, wall_clock_ns: int, authority: str | None = None) -> Identity:
    """The identity of a machine: 32 to 512 bytes of host randomness, a label, nanoseconds since 1970.

    `authority` is what its programs are to trust beside what they do, PEM.

    Raises:
        ValueError: a value out of its bounds.
    """
    text = base64.b64encode(entropy).decode()
    _entropy(text)
    return msgspec.convert(
        {
            "type": "identity", "version": 1, "entropy": text, "hostname": hostname, "wall_clock_ns": wall_clock_ns,
            "authority": authority,
        },
        Identity,
    )  # fmt: skip


def encode(said: HostMessage | GuestMessage) -> bytes:
    """One frame with this message.

    Raises:
        ValueError: it is longer than a message may be, or has half a character in a text.
    """
    return encode_frame(Message(_ENCODER.encode(said)))
