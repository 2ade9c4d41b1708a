"""Where logs, keys and remembered heads are: the only part of this package that touches files. It only reads.

Refuses files over the bounds, and damaged memory: what was remembered and cannot be read is an error, not forgotten.

    report = verify("capsule.log", key=Path("log.vkey").read_text().strip())
    for entry in entries("capsule.log"): print(entry.kind)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3

from capsule.audit import chain, verifier
from capsule.audit.checkpoint import VKey, parse_note, parse_vkey
from capsule.audit.entry import Entry, parse
from capsule.audit.merkle import Frontier
from capsule.errors import CapsuleError, Fault
from capsule.places import state_directory

CHUNK = 256 * 1024
_SLOT = 4096


class LogError(CapsuleError):
    """A log, a key or a remembered head cannot be read."""

    fault = Fault.HOST
    exit_code = 125


def chunks(path: str | os.PathLike[str], start: int = 0) -> Iterator[bytes]:
    """The bytes of a log from byte `start` on, in pieces.

    Raises:
        LogError: the file cannot be read.
    """
    try:
        with Path(path).open("rb", buffering=0) as file:
            file.seek(start)
            while piece := file.read(CHUNK):
                yield piece
    except OSError as error:
        raise LogError(
            f"{os.fspath(path)!r} cannot be read: {error.strerror}", next_step="check the path"
        ) from error


def entries(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """The entries of a log, in order, up to the first block that is not whole; `verify` says what they are worth.

    Raises:
        LogError: the file cannot be read.
        EntryError: a line is not of the dialect.
    """
    for found, data in verifier.blocks(chunks(path)):
        if isinstance(found, chain.Block):
            yield from map(parse, found.entries(data)[:-1].split(b"\n"))


def listed() -> list[str]:
    """What `capsule/native/src/audit/named.rs` lists: paths of logs that are not called `capsule.log`, and of policies.

    `policy:` comes before those.
    """
    try:
        text = (state_directory() / "named-logs").read_bytes()
    except FileNotFoundError:
        return []
    return [os.fsdecode(entry) for entry in text.split(b"\0")[:-1] if entry]


def listed_logs() -> frozenset[str]:
    """Of these, the logs."""
    return frozenset(entry for entry in listed() if not entry.startswith("policy:"))


def remembered(log: str) -> tuple[verifier.Head, VKey | None] | None:
    """The head this machine remembers of log `log` (its id), and the key it was signed with.

    Raises:
        LogError: what is remembered is damaged.
    """
    path = state_directory() / "heads" / log
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogError(
            f"{str(path)!r} cannot be read: {error.strerror}", next_step="check its owner"
        ) from error
    slots = [slot for at in range(0, len(data), _SLOT) if (slot := _slot(data[at : at + _SLOT])) is not None]
    if not slots:
        if not data:
            return None
        raise LogError(
            f"{str(path)!r} is damaged",
            next_step="check the log with `capsule verify --key`, then move it away",
        )
    newest = max(slots, key=lambda slot: int(slot["generation"]))
    tree = Frontier()
    tree.size = int(newest["size"])
    tree.peaks = [bytes.fromhex(newest["peaks"][at : at + 64]) for at in range(0, len(newest["peaks"]), 64)]
    head = verifier.Head(tree.size, tree.root(), bytes.fromhex(newest["chain"]))
    return head, parse_vkey(newest["key"])


def _slot(data: bytes) -> dict[str, Any] | None:
    digest, _, text = data.rstrip().partition(b" ")
    if blake3(text).hexdigest().encode() != digest:
        return None
    slot = json.loads(text)
    return slot if isinstance(slot, dict) and slot.get("head") == 1 else None


def verify(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    since: str | None = None,
    memory: bool = True,
) -> verifier.Report:
    """Verify the log at `path`.

    Args:
        path: the log.
        key: its public key (`capsule log --key`); without one, the key remembered for this log, if any.
        since: a signed checkpoint that was kept, which the log must contain.
        memory: compare with the head that is remembered here.

    Raises:
        LogError: something cannot be read: the file, the key, the checkpoint, what is remembered.
    """
    believed = parse_vkey(key) if key is not None else None
    if key is not None and believed is None:
        raise LogError("that is not a public key", next_step="give what `capsule log --key` prints")
    heads = []
    if memory and (log := _id(path)) is not None and (known := remembered(log)) is not None:
        heads.append(known[0])
        believed = believed or known[1]
    if since is not None:
        note = parse_note(since)
        if note is None:
            raise LogError(
                "that is not a checkpoint", next_step="give what `capsule log --checkpoint` prints"
            )
        heads.append(verifier.Head(note.size, note.root, note.chain))
    return verifier.verify(chunks(path), key=believed, heads=[head for head in heads if head.size])


def _id(path: str | os.PathLike[str]) -> str | None:
    """The id in the log's first entry, if that can be read."""
    try:
        first = next(iter(entries(path)), None)
    except ValueError:
        return None
    log = first.fields.get("log") if first is not None else None
    # It becomes part of a path: nothing but an id may.
    return log if isinstance(log, str) and len(log) == 32 and not set(log) - set("0123456789abcdef") else None
