"""What is recorded of a machine, seen from Python: its story, SQL over it, the verifier. Of one that is gone, too.

It refuses every statement but a SELECT.

    evidence = await AsyncEvidence.of("m-1a2b3c4d")
    rows = (await evidence.query("SELECT host, status FROM http")).rows
    (await evidence.verify()).code                          # 0: verified
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

from capsem.host.recorded import Recorded, Verified
from capsem.host.service import call
from capsem.sdk.loop import LOOP
from capsule.sessions.query import Answer
from capsule.sessions.timeline import Told


class AsyncEvidence:
    """The record of one machine.

    Args:
        machine: its whole id.

    Attributes:
        log: the file that is evidence.

    Raises:
        NotFoundError: there is no log of it.
    """

    def __init__(self, machine: str) -> None:
        self._recorded = Recorded(machine)
        self.log: Path = self._recorded.log

    @classmethod
    async def of(cls, sandbox_id: str) -> Self:
        """The record of a machine by id or name; one that was deleted has an id alone."""
        return cls((await call("GET", f"/machines/{sandbox_id}/record"))["id"])

    async def timeline(self) -> Told:
        """Its story in order of time (`beats`), and what it used, counted."""
        return await asyncio.to_thread(self._recorded.told)

    async def query(self, sql: str, *, limit: int = 200, seconds: float = 10.0) -> Answer:
        """One SELECT over its tables; `columns`, `rows`, and whether there were `more`.

        Args:
            sql: the question, over the tables of docs/formats/sessions.md.
            limit: rows at most.
            seconds: how long it may take.

        Raises:
            QueryError: it is no SELECT, or takes too long.
        """
        return await asyncio.to_thread(self._recorded.ask, sql, limit=limit, seconds=seconds)

    async def verify(self, *, strict: bool = False) -> Verified:
        """Check its log; of a branch, its parent's, too. `code` is 0 when it is verified.

        Args:
            strict: 21 when something deserves a look: gaps, recoveries, clocks set back.
        """
        return await asyncio.to_thread(self._recorded.verify, *(["--strict"] if strict else []))


class Evidence:
    """The same without `await`."""

    def __init__(self, evidence: AsyncEvidence) -> None:
        self._evidence = evidence
        self.log = evidence.log

    @classmethod
    def of(cls, sandbox_id: str) -> Self:
        """The record of a machine by id or name; one that was deleted has an id alone."""
        return cls(LOOP.run(AsyncEvidence.of(sandbox_id)))

    def timeline(self) -> Told:
        """Its story in order of time (`beats`), and what it used, counted."""
        return LOOP.run(self._evidence.timeline())

    def query(self, sql: str, *, limit: int = 200, seconds: float = 10.0) -> Answer:
        """One SELECT over its tables; arguments as in `AsyncEvidence`."""
        return LOOP.run(self._evidence.query(sql, limit=limit, seconds=seconds))

    def verify(self, *, strict: bool = False) -> Verified:
        """Check its log; `code` is 0 when it is verified."""
        return LOOP.run(self._evidence.verify(strict=strict))
