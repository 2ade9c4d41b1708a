"""The verifier: one pass over a log's bytes, holding one block at a time.

The first fault in the file's order is the outcome; within a block: no block, does not follow, a line outside the
dialect, a checkpoint that does not fit chain, tree or key. Heads that were remembered or given are compared only when
every block is sound. Refuses nothing: everything wrong is an outcome.

    report = verify([data], key=parse_vkey(text))
    report.outcome is Outcome.VERIFIED
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from capsule.audit import chain, merkle
from capsule.audit.checkpoint import Note, Verdict, VKey, origin, parse_line, parse_vkey
from capsule.audit.entry import Entry, EntryError, parse

MAX_OPEN_RUNS = 10_000
MAX_WARNINGS = 100


class Outcome(enum.Enum):
    """What a verification comes to: its name and the exit code of `capsule verify`."""

    VERIFIED = ("verified", 0)
    UNAUTHENTICATED = ("unauthenticated", 3)
    MALFORMED = ("malformed", 10)
    CHAIN_BROKEN = ("chain_broken", 11)
    TREE_BROKEN = ("tree_broken", 12)
    BAD_SIGNATURE = ("bad_signature", 13)
    UNKNOWN_KEY = ("unknown_key", 14)
    TRUNCATED = ("truncated", 15)
    ROLLED_BACK = ("rolled_back", 16)
    FORKED = ("forked", 17)
    ALGORITHM = ("algorithm", 18)
    TORN = ("torn", 19)
    UNSEALED = ("unsealed", 20)

    @property
    def exit_code(self) -> int:
        """What `capsule verify` exits with."""
        return self.value[1]

    def __str__(self) -> str:
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of the log from elsewhere.

    Attributes:
        size: the number of entries.
        root: the root of the tree over them.
        chain: the chain digest at that size.
    """

    size: int
    root: bytes
    chain: bytes


@dataclass(slots=True)
class Report:
    """Everything a verification found.

    Attributes:
        outcome: what it comes to.
        why: in words, when it is not `verified`.
        block: where the fault is.
        offset: byte offset of the fault, or of the end of the sound part.
        log: the log's id.
        entries: sound entries.
        blocks: sound blocks.
        size: sound bytes.
        checkpoints: checkpoints found good.
        note: the newest of them.
        warnings: `(kind, seq)` of what deserves a look, at most 100.
        warned: how many there were.
    """

    outcome: Outcome = Outcome.VERIFIED
    why: str = ""
    block: int = 0
    offset: int = 0
    log: str | None = None
    entries: int = 0
    blocks: int = 0
    size: int = 0
    checkpoints: int = 0
    note: Note | None = None
    warnings: list[tuple[str, int]] = field(default_factory=list)
    warned: int = 0

    @property
    def sealed(self) -> int:
        """How many entries the newest checkpoint covers."""
        return self.note.size if self.note is not None else 0


class _FaultError(Exception):
    def __init__(self, outcome: Outcome, why: str, *, back: bool = False) -> None:
        super().__init__(why)
        self.outcome, self.why, self.back = outcome, why, back


@dataclass(frozen=True, slots=True)
class _Genesis:
    log: str
    key: VKey | None


def _genesis(entry: Entry) -> _Genesis:
    said = entry.fields
    if entry.kind != "log.created":
        raise _FaultError(Outcome.MALFORMED, "the first entry is not log.created")
    version = said.get("format")
    if (
        version != 1
        or version is True
        or said.get("chain") != "blake3"
        or said.get("tree") != "rfc6962-sha256"
    ):
        raise _FaultError(Outcome.ALGORITHM, "of another version or other algorithms")
    log, key = said.get("log"), said.get("key")
    if (
        not isinstance(log, str)
        or len(log) != 32
        or set(log) - set("0123456789abcdef")
        or not isinstance(key, str)
    ):
        raise _FaultError(Outcome.MALFORMED, "no log id or no key")
    return _Genesis(log, parse_vkey(key))


class _Watch:
    """Runs that never ended, gaps, recoveries, clocks, policies that changed, degraded enforcement; bounded."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self.overflow = 0
        self.found: list[tuple[str, int]] = []
        self.total = 0

    def see(self, entry: Entry) -> None:
        if entry.kind == "run.started":
            if entry.run is not None and len(self.open) < MAX_OPEN_RUNS:
                self.open[entry.run] = entry.seq
            elif entry.run is not None:
                self.overflow += 1
            enforced = entry.fields.get("enforced")
            if (
                isinstance(enforced, dict)
                and isinstance(enforced.get("degraded"), list)
                and enforced["degraded"]
            ):
                self.warn("degraded", entry.seq)
        elif entry.kind == "run.ended" and entry.run is not None:
            self.open.pop(entry.run, None)
        elif entry.kind in {"gap", "recovery", "clock", "policy.changed"}:
            self.warn(entry.kind.replace(".", "_"), entry.seq)
        elif entry.kind == "log.created":
            replaces = entry.fields.get("replaces")
            if isinstance(replaces, dict) and isinstance(replaces.get("log"), str):
                self.warn("replaced", entry.seq)

    def warn(self, kind: str, seq: int) -> None:
        self.total += 1
        if len(self.found) < MAX_WARNINGS:
            self.found.append((kind, seq))

    def finish(self) -> tuple[list[tuple[str, int]], int]:
        for seq in sorted(self.open.values()):
            self.warn("unclosed", seq)
        if self.overflow:
            self.warn("unclosed", 0)
        return sorted(self.found, key=lambda warning: warning[1]), self.total


class _Pass:
    def __init__(self, key: VKey | None, heads: Sequence[Head]) -> None:
        self.report = Report()
        self.key = key
        self.tree = merkle.Frontier()
        self.chain = chain.START
        self.last = 0
        self.watch = _Watch()
        self.wanted = {head.size for head in heads}
        self.roots: dict[int, bytes] = {0: self.tree.root()}
        self.chains: dict[int, set[bytes]] = {}

    def block(self, found: chain.Block, data: bytes) -> None:
        """Check one block and go on to after it."""
        report, header = self.report, found.header
        if header.prev != self.chain:
            raise _FaultError(
                Outcome.CHAIN_BROKEN, "the next block names another digest for this block", back=True
            )
        if header.block != report.blocks or header.first != report.entries:
            raise _FaultError(Outcome.CHAIN_BROKEN, "this block does not follow the one before")
        # Parsed before any is hashed, so that a fault leaves the tree at the block's beginning.
        lines = found.entries(data)[:-1].split(b"\n")
        entries = [self._entry(line, header.first + at) for at, line in enumerate(lines)]
        if len(entries) != header.count:
            raise _FaultError(
                Outcome.MALFORMED, "the block has another number of entries than its header says"
            )
        if header.block == 0:
            if header.count != 1:
                raise _FaultError(Outcome.MALFORMED, "the first block is not one entry")
            genesis = _genesis(entries[0])
            self.key, report.log = self.key or genesis.key, genesis.log
        for entry, line in zip(entries, lines, strict=True):
            self.watch.see(entry)
            self.tree.push(merkle.leaf(line))
            if self.tree.size in self.wanted:
                self.roots[self.tree.size] = self.tree.root()
        sealed = chain.digest(data[: found.length - found.note])
        whole = chain.digest(data) if found.note else sealed
        note = found.checkpoint(data)
        if note is not None:
            self._checkpoint(note, sealed)
        self.chain, self.last = whole, report.size
        report.entries += header.count
        report.blocks += 1
        report.size += found.length
        if report.entries in self.wanted:
            self.chains[report.entries] = {sealed, whole}

    @staticmethod
    def _entry(line: bytes, seq: int) -> Entry:
        try:
            entry = parse(line)
        except EntryError as error:
            raise _FaultError(Outcome.MALFORMED, error.why) from error
        if entry.seq != seq:
            raise _FaultError(Outcome.MALFORMED, f"the entry should have seq {seq}")
        return entry

    def _checkpoint(self, line: bytes, sealed: bytes) -> None:
        note = parse_line(line)
        if note is None:
            raise _FaultError(Outcome.MALFORMED, "not a checkpoint")
        if note.chain != sealed:
            raise _FaultError(Outcome.CHAIN_BROKEN, "the checkpoint names another digest for this block")
        if note.size != self.tree.size:
            raise _FaultError(Outcome.TREE_BROKEN, "the checkpoint is for another number of entries")
        if note.root != self.tree.root():
            raise _FaultError(Outcome.TREE_BROKEN, "the checkpoint's root is not the tree's")
        if self.key is not None and self.report.log is not None:
            if note.origin != origin(self.report.log):
                raise _FaultError(Outcome.TREE_BROKEN, "the checkpoint is of another log")
            verdict = note.verify(self.key)
            if verdict is Verdict.UNKNOWN_KEY:
                raise _FaultError(Outcome.UNKNOWN_KEY, "the checkpoint is signed by another key")
            if verdict is Verdict.BAD_SIGNATURE:
                raise _FaultError(Outcome.BAD_SIGNATURE, "the signature does not fit the checkpoint")
        self.report.checkpoints += 1
        self.report.note = note


def blocks(chunks: Iterable[bytes]) -> Iterator[tuple[chain.Split, bytes]]:
    """Cut a log's bytes into blocks; the last item may be Torn or Malformed."""
    buffer, source, end = b"", iter(chunks), False
    while buffer or not end:
        found = chain.split(buffer, end=end) if buffer else chain.More()
        if isinstance(found, chain.Block):
            yield found, buffer[: found.length]
            buffer = buffer[found.length :]
        elif isinstance(found, chain.More):
            more = next(source, None)
            end = more is None
            buffer += more or b""
        else:
            yield found, buffer
            return


def verify(chunks: Iterable[bytes], *, key: VKey | None = None, heads: Sequence[Head] = ()) -> Report:
    """Verify a log.

    Args:
        chunks: the log's bytes, in order, in pieces of any size.
        key: the key to believe; without one the log's own word is taken, and the best outcome is `unauthenticated`.
        heads: what is known of the log from elsewhere.
    """
    going = _Pass(key, heads)
    report, torn = going.report, False
    try:
        for found, data in blocks(chunks):
            if isinstance(found, chain.Block):
                going.block(found, data)
            elif isinstance(found, chain.Malformed):
                raise _FaultError(Outcome.MALFORMED, found.why)
            else:
                torn = True
    except _FaultError as fault:
        report.outcome, report.why = fault.outcome, fault.why
        back = fault.back and report.blocks > 0
        report.block, report.offset = report.blocks - back, going.last if back else report.size
    else:
        report.outcome, report.why = _conclude(going, heads, torn=torn, authenticated=key is not None)
        report.block, report.offset = report.blocks, report.size
    report.warnings, report.warned = going.watch.finish()
    return report


def _conclude(going: _Pass, heads: Sequence[Head], *, torn: bool, authenticated: bool) -> tuple[Outcome, str]:
    report = going.report
    for head in heads:
        if report.entries < head.size:
            whole = not torn and report.sealed == report.entries
            why = f"it has {report.entries} entries; a known head has {head.size}"
            return (Outcome.ROLLED_BACK if whole else Outcome.TRUNCATED), why
    for head in heads:
        grown = going.roots.get(head.size) == head.root
        chained = head.chain in going.chains.get(head.size, set())
        if grown and not chained and head.size == report.entries > report.sealed:
            return Outcome.TRUNCATED, "the checkpoint of a known head is missing"
        if not grown or not chained:
            return Outcome.FORKED, f"its first {head.size} entries are not those of a known head"
    if not report.blocks and not torn:
        return Outcome.MALFORMED, "it is empty"
    if torn:
        return Outcome.TORN, "the file ends within a block"
    if report.sealed < report.entries:
        return Outcome.UNSEALED, f"{report.entries - report.sealed} entries follow the last checkpoint"
    if not authenticated:
        return Outcome.UNAUTHENTICATED, "no key was given or known"
    return Outcome.VERIFIED, ""
