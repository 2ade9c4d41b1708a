"""What of CAPSEM_HOME could go by rule, found on the disk; and its removal, on record before it happens.

Refuses to remove what came into use since it was looked at. What was cleaned is in `logs/cleaned.jsonl`.

    found = judged(items(), load(), time.time())
    for one in found: ...
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from capsem.errors import CapsemError
from capsem.host import images, paths, places
from capsem.host.plans import read_plan
from capsem.host.remembered import forget
from capsem.host.rooms import abandoned, clear
from capsem.host.usage import taken
from capsem.vm.keeping import Item, Judged, What
from capsem.vm.record import Record, decode

_ROOMS = (".building-", ".forking-", ".removed-")
_TAIL = 1 << 17
MAKING = ".new"
"""How the name of a template's directory ends while it is made."""


def recorded_at() -> Path:
    """Where it is written what was cleaned."""
    return places.log("").parent / "cleaned.jsonl"


def items() -> list[Item]:
    """All that a rule could speak of."""
    machines = _Machines.known()
    return [*_templates(), *_images(), *_logs(machines), *_unfinished()]


def _templates() -> Iterator[Item]:
    there = {image.digest for image in images.everything()}
    for directory in sorted(places.templates().iterdir()):
        mark = directory / "complete"
        if directory.name.endswith(MAKING) or not mark.exists():
            continue
        useless = None
        try:
            if read_plan(directory).image.digest not in there:
                useless = "its image is gone"
        except (OSError, msgspec.MsgspecError):
            useless = "it is of another version"
        yield Item(
            What.TEMPLATE, directory.name, taken([directory])[0], mark.stat().st_mtime, useless=useless
        )


def _images() -> Iterator[Item]:
    named = {digest: name for name, digest in images.names().items()}
    for image in images.everything():
        needed = None
        if image.digest in named:
            needed = f"it is named {named[image.digest]}"
        elif users := images.users(image.digest):
            needed = f"machine {users[0]} needs it"
        elif forks := images.forks_of(image.digest):
            needed = f"image {forks[0]} needs it"
        elif image.disk is not None:
            needed = "it was made of a machine, and what it has is nowhere else"
        used = images.last_used(image)
        yield Item(What.IMAGE, image.digest, taken([image.directory])[0], used, needed=needed)


@dataclass(frozen=True, slots=True)
class _Machines:
    """The machines that there are, and the logs that they go back to.

    Attributes:
        ids: theirs, also of those whose record cannot be read.
        origins: logs that branches refer to, and the branch.
        unreadable: whether there is one that may refer to any log.
    """

    ids: set[str]
    origins: dict[str, str]
    unreadable: bool

    @classmethod
    def known(cls) -> _Machines:
        ids: set[str] = set()
        origins: dict[str, str] = {}
        unreadable = False
        for directory in paths.sessions().iterdir():
            ids.add(directory.name)
            try:
                record: Record = decode((directory / "session.json").read_bytes(), directory.name)
            except FileNotFoundError:
                continue
            except (OSError, CapsemError):
                unreadable = True
                continue
            if record.origin is not None:
                origins[record.origin.machine] = record.id
        return cls(ids, origins, unreadable)


def _logs(machines: _Machines) -> Iterator[Item]:
    for log in places.logged():
        needed = None
        if log.stem in machines.ids:
            needed = "its machine is there"
        elif log.stem in machines.origins:
            needed = f"machine {machines.origins[log.stem]} is a branch of it"
        elif machines.unreadable:
            needed = "the record of a machine that may be a branch of it cannot be read"
        elif not ends_signed(log):
            needed = "it does not end in a checkpoint: it is unfinished"
        with contextlib.suppress(FileNotFoundError):
            yield Item(
                What.LOG,
                log.stem,
                taken([log, places.index(log.stem)])[0],
                log.stat().st_mtime,
                needed=needed,
            )


def ends_signed(log: Path) -> bool:
    """Whether the last line of a log is a checkpoint (docs/formats/audit-log.md)."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return False
    return bool(lines) and lines[-1].startswith(b'{"note":') and lines[-1].endswith(b"\n")


def _unfinished() -> Iterator[Item]:
    why = "whoever made it was killed"
    for directory, marks in ((paths.images(), _ROOMS), (places.templates(), ())):
        rooms = abandoned(directory, marks) if marks else abandoned_templates()
        for place in rooms:
            name = str(place.relative_to(paths.home()))
            with contextlib.suppress(FileNotFoundError):
                yield Item(
                    What.UNFINISHED, name, taken([place])[0], place.lstat().st_mtime, needed=None, useless=why
                )


def abandoned_templates() -> list[Path]:
    """Templates that were being made by a service that is no more."""
    return [place for place in abandoned(places.templates(), ("",)) if place.name.endswith(MAKING)]


def remove(found: Judged) -> bool:
    """Remove what goes, once that is on record; False: it came into use meanwhile, and stays.

    A template is its service's to remove, as machines may be about to start from it.

    Raises:
        OSError: it cannot be put on record, so it stays.
    """
    item = found.item
    assert found.goes
    if not _still(item):
        return False
    put_on_record(found)
    match item.what:
        case What.TEMPLATE:
            shutil.rmtree(places.templates() / item.name, ignore_errors=True)
        case What.IMAGE:
            try:
                images.remove(item.name, unused_since=item.used)
            except CapsemError:
                return False
        case What.LOG:
            places.log(item.name).unlink(missing_ok=True)
            forget(places.log(item.name).parent.resolve() / places.log(item.name).name)
            shutil.rmtree(places.index(item.name), ignore_errors=True)
        case What.UNFINISHED:
            return clear(paths.home() / item.name)
    return True


def _still(item: Item) -> bool:
    """Whether it was not used since it was looked at."""
    place = {
        What.TEMPLATE: places.templates() / item.name / "complete",
        What.LOG: places.log(item.name),
    }.get(item.what)
    if place is None:
        return True
    try:
        return place.stat().st_mtime == item.used
    except FileNotFoundError:
        return False


def put_on_record(found: Judged) -> None:
    """One line: what goes, how much that is, why, and which file says so.

    Raises:
        OSError: it cannot be written.
    """
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = msgspec.json.encode({"time": time, **shown(found)}) + b"\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(recorded_at(), flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or os.write(descriptor, line) != len(line):
            raise OSError(f"{recorded_at()} cannot be written")
    finally:
        os.close(descriptor)


def shown(found: Judged) -> dict[str, Any]:
    """As it is told and recorded."""
    item = found.item
    return {
        "what": item.what.value,
        "name": item.name,
        "bytes": item.size,
        "why": found.why,
        "from": found.place,
    }
