"""Observations: what a command was seen to use, as frozen values, and how several runs become one.

What it refuses: a document that is not exactly of docs/formats/observation.md, strings with NUL, negative counts.

    first = parse_observation(data)
    both = merge(first, parse_observation(other))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from capsule.errors import CapsuleError

MAX_BYTES = 64 * 2**20
MAX_PATH_BYTES = 4096
FILE_COUNTS = ("read", "write", "create", "remove", "change", "execute", "list", "absent", "refused")


class ObservationError(CapsuleError):
    """A file is not an observation."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(message, next_step="make a new one with `capsule profile`")


class SyscallUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One system call and how often it was entered."""

    name: str
    count: int


class FileUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One resolved name and what was done with it, as counts."""

    path: str
    read: int = 0
    write: int = 0
    create: int = 0
    remove: int = 0
    change: int = 0
    execute: int = 0
    list: int = 0
    absent: int = 0
    refused: int = 0

    @property
    def written(self) -> int:
        """Every kind of modification together."""
        return self.write + self.create + self.remove + self.change


class ProgramUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One executed file."""

    path: str
    count: int


class AddressUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address, as ``tcp:1.2.3.4:443`` or ``unix:/run/x``."""

    address: str
    operation: str
    count: int
    refused: int = 0


class Observation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything seen over one or more runs."""

    observation: int
    runs: int
    command: tuple[str, ...]
    workspace: str
    home: str
    cause: str
    code: int | None
    syscalls: tuple[SyscallUse, ...]
    implied: tuple[str, ...]
    files: tuple[FileUse, ...]
    programs: tuple[ProgramUse, ...]
    addresses: tuple[AddressUse, ...]
    lost: int


def parse_observation(untrusted_data: bytes) -> Observation:
    """Read one observation.

    Raises:
        ObservationError: with the JSON path of what is wrong.
    """
    if len(untrusted_data) > MAX_BYTES:
        raise ObservationError(f"the observation has {len(untrusted_data)} bytes, more than {MAX_BYTES}")
    try:
        seen = msgspec.json.decode(untrusted_data, type=Observation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ObservationError(f"not an observation: {error}") from error
    if seen.observation != 1:
        raise ObservationError(f"observation version {seen.observation}, and this capsule reads version 1")
    for use in seen.files:
        _check_path(use.path)
        if min(getattr(use, name) for name in FILE_COUNTS) < 0:
            raise ObservationError(f"a negative count for {use.path!r}")
    for program in seen.programs:
        _check_path(program.path)
    counts = [
        *(use.count for use in seen.syscalls),
        *(use.count for use in seen.programs),
        *(use.count for use in seen.addresses),
    ]
    if counts and min(counts) < 0:
        raise ObservationError("a negative count")
    for place in (seen.workspace, seen.home):
        if place:
            _check_path(place)
    return seen


def _check_path(path: str) -> None:
    if (
        not path.startswith("/")
        or "\0" in path
        or len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES
    ):
        raise ObservationError(f"not an absolute path: {path[:80]!r}")


def encode_observation(seen: Observation) -> bytes:
    """The document, with a newline."""
    return msgspec.json.format(msgspec.json.encode(seen), indent=1) + b"\n"


def merge(*observations: Observation) -> Observation:
    """Counts added up; lists sorted; command, cause and code of the last.

    Raises:
        ObservationError: when they are of different workspaces, so that ``./`` would mean two things.
    """
    if not observations:
        raise ObservationError("nothing to merge")
    last = observations[-1]
    workspaces = {seen.workspace for seen in observations}
    if len(workspaces) > 1:
        raise ObservationError(f"observations of different directories: {', '.join(sorted(workspaces))}")
    syscalls: Counter[str] = Counter()
    programs: Counter[str] = Counter()
    for seen in observations:
        syscalls.update({use.name: use.count for use in seen.syscalls})
        programs.update({use.path: use.count for use in seen.programs})
    return Observation(
        observation=1,
        runs=sum(seen.runs for seen in observations),
        command=last.command,
        workspace=last.workspace,
        home=last.home,
        cause=last.cause,
        code=last.code,
        syscalls=tuple(SyscallUse(name, count) for name, count in sorted(syscalls.items())),
        implied=tuple(sorted({name for seen in observations for name in seen.implied})),
        files=_merge_files(use for seen in observations for use in seen.files),
        programs=tuple(ProgramUse(path, count) for path, count in sorted(programs.items())),
        addresses=_merge_addresses(use for seen in observations for use in seen.addresses),
        lost=sum(seen.lost for seen in observations),
    )


def _merge_files(uses: Iterable[FileUse]) -> tuple[FileUse, ...]:
    totals: dict[str, Counter[str]] = {}
    for use in uses:
        totals.setdefault(use.path, Counter()).update({name: getattr(use, name) for name in FILE_COUNTS})
    return tuple(
        FileUse(path, **{name: counts[name] for name in FILE_COUNTS})
        for path, counts in sorted(totals.items())
    )


def _merge_addresses(uses: Iterable[AddressUse]) -> tuple[AddressUse, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    refused: Counter[tuple[str, str]] = Counter()
    for use in uses:
        counts[use.address, use.operation] += use.count
        refused[use.address, use.operation] += use.refused
    return tuple(AddressUse(*key, count, refused[key]) for key, count in sorted(counts.items()))
