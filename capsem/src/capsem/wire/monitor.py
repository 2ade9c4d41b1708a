"""What a client says to a machine's monitor, and what it answers (docs/formats/machine-monitor.md), typed.

One connection is one operation: the first message asks, the last one answers. Frames are those of `capsem.wire.frame`.
Pure. Refuses an unknown type, an unknown or missing field, and a value out of its bounds.

    encode(Exec(argv=("true",)))                  # bytes of a frame
    decode_client(frame)                          # Info | Exec | Signal | …
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from capsem.errors import WireError
from capsem.wire.frame import FrameError, Message
from capsem.wire.frame import encode as encode_frame

INPUT, OUTPUT, ERRORS = 1, 2, 3
"""Streams of an operation: what the client sends, what it gets, and a command's standard error."""
WINDOW = 1 << 20
"""Bytes of INPUT a client may have sent beyond what was credited."""

Path = Annotated[str, msgspec.Meta(pattern=r"^/[^\x00]{0,4094}\Z")]
_PATH_BYTES = 4095
Cells = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Mode = Annotated[int, msgspec.Meta(ge=0, le=0o1777)]


class _Said(msgspec.Struct, tag_field="type", tag=str.lower, forbid_unknown_fields=True, frozen=True):
    """A message; its type is the name of its class in small letters."""


class Info(_Said, frozen=True):
    """How is the machine?"""


class Size(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A terminal's size in cells."""

    rows: Cells
    columns: Cells


class Exec(_Said, frozen=True):
    """Run a command. `user` is a number and its group, 0 for root."""

    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=4096)]
    env: dict[str, str] = {}
    cwd: Path | None = None
    user: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)] | None = None
    stdin: bool = False
    tty: Size | None = None
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] | None = None


class Signal(_Said, frozen=True):
    """To the command's process group."""

    number: Annotated[int, msgspec.Meta(ge=1, le=64)]


class Resize(_Said, frozen=True):
    """The terminal's new size."""

    rows: Cells
    columns: Cells


class File(_Said, frozen=True, omit_defaults=True):
    """One operation on one path of the machine; `write` takes INPUT, `read` gives OUTPUT.

    `pack` gives a directory as an archive, `unpack` takes one; `recursive` empties the directory before. `watch` gives
    what changes in a directory, `recursive`: and below it. `rename` has `to`; `list` may begin `after` a name. What is
    not asked for is not said: a machine may run on under a monitor that does not know the field.
    """

    op: Literal["stat", "list", "mkdir", "remove", "read", "write", "pack", "unpack", "rename", "watch"]
    path: Path
    mode: Mode | None = None
    recursive: bool = False
    user: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)] | None = None
    to: Path | None = None
    after: Annotated[str, msgspec.Meta(max_length=4096)] | None = None


class Commands(_Said, frozen=True):
    """Which commands run?"""


class Attach(_Said, frozen=True):
    """Attend to a command that runs: its output from now on, and its end; input and signals as its own client."""

    pid: Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]


class Detach(_Said, frozen=True):
    """After Exec: the command runs on, whatever becomes of the connection, which ends."""


class Deadline(_Said, frozen=True):
    """The machine is to end after that time from now; null: when it is ended."""

    after_ms: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] | None


class Stop(_Said, frozen=True):
    """End the machine; without `force` the agent is asked first."""

    force: bool = False


class Become(_Said, frozen=True):
    """Be the machine that `session.json` in its directory tells of; only to one that was made ahead.

    `leased`: it is there for one client, as of Lease.
    """

    leased: bool = False


class Lease(_Said, frozen=True):
    """The machine is this client's: it ends when the connection does. Only to one that was begun for that."""


class Keep(_Said, frozen=True):
    """After Lease: the machine stays, whatever becomes of the connection."""


class Over(_Said, frozen=True):
    """After Lease: the client is done with the machine. The connection ends once the machine has and its log is whole.

    One that was given a name stays, which Result says: `{"name": …}`.
    """


class Suspend(_Said, frozen=True):
    """Keep the machine's memory and devices in its directory, and end it."""


class Copy(_Said, frozen=True):
    """Copy its disk to `copies/NAME` of its directory while it stands still; its memory and devices, too.

    Those are the monitor's until its client hangs up.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]{1,32}\Z")]
    memory: bool = False


class Copied(_Said, frozen=True):
    """The answer to Copy: how long it stood still, and a checkpoint of its log with the copy in it.

    `memory` and `state` are sealed descriptors of the process `pid`, where the memory was asked for.
    """

    paused_ms: int
    checkpoint: str
    pid: int | None = None
    memory: int | None = None
    state: int | None = None


class Secrets(_Said, frozen=True):
    """Values of the secrets that the machine's policy names; kept in memory only."""

    values: dict[str, Annotated[str, msgspec.Meta(min_length=1, max_length=1 << 16)]]

    def __repr__(self) -> str:
        return f"Secrets({sorted(self.values)})"


class Asks(_Said, frozen=True):
    """What waits for a person's answer? With nothing there, whatever comes within `wait_ms`."""

    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=120_000)] = 0


class Answer(_Said, frozen=True):
    """A person's answer to an ask."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,80}\Z")]
    action: Literal["allow", "deny"]
    scope: Literal["once", "path", "host"] = "once"
    for_ms: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] | None = None


class Command(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A command that runs. `pid` is what the guest says; `started`: RFC 3339; `cut`: not all of argv or cwd is here."""

    pid: int
    argv: tuple[str, ...]
    cwd: str
    user: int
    started: str
    stdin: bool
    tty: bool
    attended: bool
    cut: bool


class Listed(_Said, frozen=True):
    """The answer to Commands, the oldest first."""

    commands: tuple[Command, ...]


class Waiting(_Said, frozen=True):
    """The answer to Asks, the oldest first."""

    asks: tuple[dict[str, Any], ...]


class Status(_Said, frozen=True):
    """The answer to Info."""

    id: str
    state: str
    pid: int
    qemu_pid: int | None
    accelerator: str
    board: str
    template: bool
    uptime_ms: int
    kernel: str
    agent: str
    jobs: int
    problem: str | None = None
    ends_in_ms: int | None = None


class Started(_Said, frozen=True):
    """The command runs; in the machine it has this process id."""

    pid: int


class Refusal(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Something that was refused: what, by whom, and the line that would allow it. `program` is what the guest says."""

    kind: str
    what: str
    by: str
    reason: str
    allow: str | None
    rule: str | None
    file: str | None
    line: int | None
    program: str | None
    reported_by: str | None


class Finding(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A detection rule that fired."""

    id: str
    title: str
    level: str


class Seen(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What went on the machine's log while the command ran; the first 40 refusals and 20 findings."""

    requests: int = 0
    names: int = 0
    connections: int = 0
    model_calls: int = 0
    tokens: int = 0
    cost_microdollars: int = 0
    asks: int = 0
    refused: tuple[Refusal, ...] = ()
    refused_total: int = 0
    findings: tuple[Finding, ...] = ()


class Exited(_Said, frozen=True):
    """The command has ended; one of `code` and `signal` is null."""

    code: int | None
    signal: int | None
    timed_out: bool
    cpu_ms: int
    max_rss_bytes: int
    seen: Seen | None = None

    @property
    def exit_code(self) -> int:
        """As a shell tells it: its own, or 128 and its signal."""
        return self.code if self.code is not None else 128 + (self.signal or 0)


class Result(_Said, frozen=True):
    """A file operation's answer."""

    value: dict[str, Any]


class Done(_Said, frozen=True):
    """It is done."""


class Failed(_Said, frozen=True):
    """It did not happen. `kind` is the name of the error's class, `errno` the guest's word for it or null."""

    kind: str
    message: str
    next_step: str
    errno: str | None = None


ClientMessage = (
    Secrets
    | Asks
    | Answer
    | Info
    | Exec
    | Signal
    | Resize
    | File
    | Commands
    | Attach
    | Detach
    | Deadline
    | Stop
    | Suspend
    | Copy
    | Become
    | Lease
    | Keep
    | Over
)
MonitorMessage = Waiting | Listed | Status | Copied | Started | Exited | Result | Done | Failed

_CLIENT: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_MONITOR: msgspec.json.Decoder[MonitorMessage] = msgspec.json.Decoder(MonitorMessage)
_ENCODER = msgspec.json.Encoder()


def problem(said: ClientMessage) -> str | None:
    """What no machine could be asked, and why not; None when it can. An agent ends its machine over such a value."""
    if isinstance(said, Exec):
        if any("\0" in text for text in said.argv):
            return "an argument has a zero byte"
        for name, value in said.env.items():
            if not name or "=" in name or "\0" in name or "\0" in value:
                return f"{name!r} is no variable that a program could be given"
    if isinstance(said, File) and (said.op == "rename") != (said.to is not None):
        return "'to' is of a rename, and a rename has it"
    if isinstance(said, File) and said.op != "list" and said.after is not None:
        return "'after' is of a list"
    for path in _paths(said):
        if len(path.encode("utf-8", "surrogatepass")) > _PATH_BYTES:
            return f"a path of more than {_PATH_BYTES} bytes: {path[:60]!r}…"
    return None


def _paths(said: ClientMessage) -> tuple[str, ...]:
    named = (said.cwd,) if isinstance(said, Exec) else (said.path, said.to) if isinstance(said, File) else ()
    return tuple(path for path in named if path is not None)


def refusal(said: ClientMessage) -> str | None:
    """The same, and what is not of the documented form, before it is sent."""
    for path in _paths(said):
        if not path.startswith("/") or "\0" in path:
            return f"{path[:60]!r} is no absolute path: it begins with /, and has no zero byte"
    try:
        said = _CLIENT.decode(_ENCODER.encode(said))
    except msgspec.ValidationError as error:
        return str(error).replace(" - at `$.", ": `")
    return problem(said)


def encode(said: ClientMessage | MonitorMessage) -> bytes:
    """The frame of a message.

    Raises:
        ValueError: it is too large for a frame.
    """
    return encode_frame(Message(_ENCODER.encode(said)))


def decode_client(untrusted: Message) -> ClientMessage:
    """A client's message.

    Raises:
        WireError: it is not of the documented form.
    """
    try:
        said = _CLIENT.decode(untrusted.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(
            f"not a client's message: {error}", next_step="see docs/formats/machine-monitor.md"
        ) from None
    if (why := problem(said)) is not None:
        raise WireError(f"not a client's message: {why}", next_step="see docs/formats/machine-monitor.md")
    return said


def decode_monitor(untrusted: Message) -> MonitorMessage:
    """A monitor's message.

    Raises:
        WireError: it is not of the documented form.
    """
    try:
        return _MONITOR.decode(untrusted.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(
            f"not a monitor's message: {error}", next_step="are both sides of one version?"
        ) from None


__all__ = [
    "ERRORS", "INPUT", "OUTPUT", "WINDOW", "Answer", "Asks", "Attach", "Become", "ClientMessage", "Command",
    "Commands", "Copied", "Copy", "Deadline", "Detach", "Done", "Exec", "Exited", "Failed", "File", "Finding",
    "FrameError", "Info", "Keep", "Lease", "Listed", "MonitorMessage", "Over", "Refusal", "Resize", "Result",
    "Secrets", "Seen", "Signal", "Size", "Started", "Status", "Stop", "Suspend", "Waiting", "decode_client",
    "decode_monitor", "encode", "problem", "refusal",
]  # fmt: skip
