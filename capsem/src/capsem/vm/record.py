"""What is kept of a machine: one `session.json` in its directory, written whole by the service.

Refuses a file that is not of this form, naming it; a record of a newer version is not guessed at.

    record = Record(id="m-1a2b3c4d", image="default", digest="sha256:…", created="2026-01-01T00:00:00Z", …)
    decode(encode(record), "session.json") == record
"""

from __future__ import annotations

from typing import Literal

import msgspec

from capsem.errors import MachineError
from capsem.vm.lifecycle import State
from capsem.vm.spec import MachineSpec


class Origin(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The machine that another was branched from.

    Attributes:
        machine: its id.
        copy: what the entry `machine.copied` on its log calls the moment.
        checkpoint: of that log, signed, with that entry in it; its log goes on from there.
    """

    machine: str
    copy: str
    checkpoint: str


class Record(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One machine.

    Attributes:
        id: `m-` and eight hex digits; also the name of its directory.
        spec: what was asked for.
        digest: of the image it was made from.
        created: RFC 3339, UTC.
        state: as last written; what a monitor says is newer.
        accelerator: who executes it, once it has been started.
        board: the machine QEMU builds for it.
        template: whether it started from a template.
        problem: why it failed or crashed.
        origin: the machine that it is a branch of; its own log begins with it.
        version: of this form.
    """

    id: str
    spec: MachineSpec
    digest: str
    created: str
    state: State = State.CREATED
    accelerator: str | None = None
    board: str | None = None
    template: bool = False
    problem: str | None = None
    origin: Origin | None = None
    version: Literal[1] = 1

    @property
    def names(self) -> tuple[str, ...]:
        """What it answers to."""
        return (self.id,) if self.spec.name is None else (self.spec.name, self.id)


class End(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How a machine ended, as its monitor left it in `end.json`; without that file the monitor itself was killed.

    Attributes:
        state: what it is from now on.
        problem: why, when nobody asked for it.
    """

    state: State
    problem: str | None = None


def next_step(record: Record) -> str | None:
    """What to do with a machine that stands; None when nothing needs to be done."""
    name = record.names[0]
    match record.state:
        case State.SUSPENDED:
            return f"capsem resume {name}"
        case State.CRASHED | State.FAILED:
            return f"capsem logs {name}, then capsem start {name} or capsem delete {name}"
        case State.STOPPED:
            return f"capsem start {name}"
        case _:
            return None


_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """The record as JSON, one line a field's worth of indentation, so that a person can read it."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def decode(untrusted: bytes, place: str) -> Record:
    """The record in a file.

    Raises:
        MachineError: it is none.
    """
    try:
        return _DECODER.decode(untrusted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MachineError(
            f"{place} is no record of a machine: {error}", next_step="move its directory away"
        ) from error
