"""A machine's log and the session database over it: told, asked in SQL, counted, verified; of one that is gone, too.

The database is an index that holds nothing the log has not (capsule's docs/formats/sessions.md); each machine has one
of its own, which is brought up to date when it is asked. It refuses every statement but a SELECT.

    recorded = Recorded("m-1a2b3c4d")
    recorded.told().beats
    recorded.ask("SELECT host, count(*) FROM http GROUP BY host").rows
    recorded.verify().code
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capsem.errors import MachineError, NotFoundError
from capsem.host import places
from capsule.sandbox.launcher import find_binary
from capsule.sessions.database import DamagedError, Writer
from capsule.sessions.ingest import take_in
from capsule.sessions.query import Answer, Reader
from capsule.sessions.schema import RUNS
from capsule.sessions.timeline import Told, tell

BUSY_SECONDS = 30.0
SIGNED_SECONDS = 2.0
"""A recorder signs what it was handed within one."""
_AGAIN_SECONDS = 0.2
_COUNTS = {
    "entries": "SELECT count(*) FROM events",
    "commands": "SELECT count(*) FROM commands WHERE outcome IS NULL AND action IS NOT 'block'",
    "refused": "SELECT count(*) FROM decisions WHERE action = 'block'",
    "requests": "SELECT count(*) FROM http",
    "model_calls": "SELECT count(*) FROM model",
    "tokens": "SELECT coalesce(sum(input_tokens), 0) + coalesce(sum(output_tokens), 0) FROM model",
    "cost_microdollars": "SELECT coalesce(sum(cost_microdollars), 0) FROM model",
    "asks": "SELECT count(*) FROM asks WHERE outcome IS NULL",
    "findings": "SELECT count(*) FROM findings",
}


@dataclass(frozen=True, slots=True)
class Verified:
    """What the verifier says.

    Attributes:
        code: its exit code: 0 verified, else as `capsule verify --help` says.
        said: what it wrote for a person.
        found: the same as JSON; empty where it could not say so.
    """

    code: int
    said: str
    found: dict[str, Any] = field(default_factory=dict)


class Recorded:
    """What is recorded of one machine.

    Args:
        machine: its whole id.

    Attributes:
        machine: its id.
        log: the file that is evidence.
        notes: what a person should know of the index: a log that was rolled back, say.

    Raises:
        NotFoundError: there is no log of it.
    """

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.log = places.log(machine)
        self.notes: list[str] = []
        if not self.log.exists():
            raise NotFoundError(f"there is no log of {machine}", next_step=f"see {self.log.parent}")

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[Reader, dict[str, Any]]]:
        """The database with what is new on the log, and the machine's row in `runs`."""
        place = places.index(self.machine)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Writer.open(place, wait=BUSY_SECONDS) as writer:
            try:
                notes = take_in(writer, [str(self.log)]).notes
            except DamagedError as error:
                writer.renew(error.message)
                notes = take_in(writer, [str(self.log)]).notes
            self.notes = [*writer.notes, *notes]
        with Reader.open(place) as reader:
            yield reader, self._run(reader)

    def _run(self, reader: Reader) -> dict[str, Any]:
        columns = ", ".join(f"runs.{column}" for column in RUNS.names)
        found = reader.all(
            f"SELECT {columns}, logs.path, logs.state "  # noqa: S608 - names of columns
            "FROM runs JOIN logs ON logs.number = runs.log WHERE run = ? ORDER BY number DESC LIMIT 1",
            (f"r-{self.machine}",),
        )
        if not found:
            raise MachineError(
                f"{self.log} says nothing of {self.machine}", next_step=f"capsem verify {self.machine}"
            )
        return dict(zip((*RUNS.names, "path", "state"), found[0], strict=True))

    def told(self) -> Told:
        """Its story in order of time, and what it used, counted."""
        with self.opened() as (reader, run):
            return tell(run, reader.happened(run))

    def ask(self, sql: str, *, limit: int = 200, seconds: float = 10.0) -> Answer:
        """One SELECT over its tables.

        Args:
            sql: the question.
            limit: rows at most.
            seconds: how long it may take.

        Raises:
            QueryError: it is no SELECT, or takes too long.
        """
        with self.opened() as (reader, _):
            return reader.ask(sql, limit=limit, seconds=seconds)

    def counted(self) -> dict[str, int]:
        """How many of what it has recorded."""
        with self.opened() as (reader, _):
            return {name: int(reader.all(sql)[0][0]) for name, sql in _COUNTS.items()}

    def last_start(self) -> dict[str, Any]:
        """What the entry of its last start says, with `first` and `last`, the times of its first and last entry."""
        with self.opened() as (reader, run):
            rows = reader.all(
                "SELECT event FROM events WHERE entry = 'machine.started' ORDER BY id DESC LIMIT 1"
            )
            ((last,),) = reader.all("SELECT max(time) FROM events WHERE run = ?", (run["run"],))
        found: dict[str, Any] = json.loads(rows[0][0]) if rows else {}
        return {**found, "first": run["started"], "last": last}

    def verify(self, *options: str) -> Verified:
        """Check its log: every line, block and signature; of a branch, that its parent's has the moment of it, too.

        Of a machine that runs, entries of the last second may not be signed yet: they are waited for, for 2 s.

        Args:
            options: of `capsule verify`: `--strict`, `--quick`.

        Raises:
            CapsuleError: the verifier is not there.
        """
        mine = _verify(self.log, options)
        if mine.code != 0 or (parent := self._parent()) is None:
            return mine
        log, checkpoint = parent
        if not log.exists():
            text = f"{mine.said}\nthe log of the machine it is a branch of is gone: {log}"
            return Verified(mine.code, text, {**mine.found, "parent": None})
        with tempfile.NamedTemporaryFile("w", prefix="capsem-", suffix=".checkpoint") as file:
            file.write(checkpoint)
            file.flush()
            theirs = _verify(log, (*options, "--since", file.name))
        text = f"{mine.said}\nit is a branch; its parent's log, with the moment in it:\n{theirs.said}"
        return Verified(theirs.code, text, {**mine.found, "parent": theirs.found})

    def _parent(self) -> tuple[Path, str] | None:
        with self.opened() as (reader, run):
            rows = reader.all(
                "SELECT event FROM events WHERE entry = 'machine.branched' AND run = ? ORDER BY id LIMIT 1",
                (run["run"],),
            )
        if not rows:
            return None
        event = json.loads(rows[0][0])
        machine, checkpoint = event.get("machine"), event.get("checkpoint")
        if not isinstance(machine, str) or not places.is_id(machine) or not isinstance(checkpoint, str):
            raise MachineError(f"{self.log} names no parent that there can be", next_step=f"see {self.log}")
        return places.log(machine), checkpoint


def _verify(log: Path, options: Sequence[str]) -> Verified:
    """What is the verdict; while somebody writes, the newest entries are given the time to be signed."""
    until = time.monotonic() + SIGNED_SECONDS
    while (found := _verdict(log, options)).found.get("outcome") == "unsealed" and time.monotonic() < until:
        time.sleep(_AGAIN_SECONDS)
    return found


def _verdict(log: Path, options: Sequence[str]) -> Verified:
    line = [str(find_binary()), "verify", str(log), *options, "--json"]
    told = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        found = json.loads(told.stdout)
    except ValueError:
        found = {}
    said = found.pop("text", "") + ("\n" + told.stderr if told.stderr else "")
    return Verified(told.returncode, said.strip("\n"), found)
