"""What the service knows of the machines of this user: found by name or id, with what happened to them, also once gone.

Refuses a name that fits none or more than one, and a name that another machine has.

    known = Known()
    known.put(record)
    known.find("build")
"""

from __future__ import annotations

import re
import time

from capsem.errors import ConflictError, NotFoundError, UsageError
from capsem.host import places
from capsem.host.keeping import remove
from capsem.host.usage import taken
from capsem.host.whole import write_whole
from capsem.vm.history import Happened, told
from capsem.vm.keeping import Item, Judged, What
from capsem.vm.record import Record, encode


class Known:
    """The records of one home, and the logs of what is gone."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def put(self, record: Record) -> Record:
        """Keep what is known of a machine."""
        # A temporary machine does not outlive the host's end anyway.
        write_whole(places.session(record.id) / "session.json", encode(record), sync=record.spec.persistent)
        self._records[record.id] = record
        return record

    def noted(self, record: Record) -> Record:
        """Keep what was found out of a machine; where that cannot be written it holds until it is found out again."""
        try:
            return self.put(record)
        except OSError:
            self._records[record.id] = record
            return record

    def find(self, name: str) -> Record:
        """A machine by its name, its id, or the beginning of its id.

        Raises:
            NotFoundError: none, or more than one.
        """
        exact = [record for record in self._records.values() if name in record.names]
        fits = exact or [
            record for record in self._records.values() if len(name) >= 4 and record.id.startswith(name)
        ]
        if len(fits) != 1:
            raise NotFoundError(
                f"no machine named {name!r}" if not fits else f"{name!r} fits {len(fits)} machines",
                next_step="see capsem list",
            )
        return fits[0]

    def history(self, name: str) -> list[Happened]:
        """What happened to a machine; of one that was deleted, by its whole id.

        Raises:
            NotFoundError: there is no such machine, and no log of it.
        """
        log = places.log(self.recorded(name)[0])
        return list(told(log.read_bytes().splitlines())) if log.exists() else []

    def recorded(self, name: str) -> tuple[str, Record | None]:
        """The id of a machine that there is or that was deleted, and the one that there is.

        Args:
            name: its name, or its id or the beginning of that; one that was deleted has no name.

        Raises:
            NotFoundError: there is no such machine, and no log of it.
        """
        try:
            record = self.find(name)
        except NotFoundError:
            if re.fullmatch(r"m-[0-9a-f]{2,8}", name) is None:
                raise
            logs = [log.stem for log in places.logged() if log.stem.startswith(name)]
            if len(logs) != 1:
                raise
            return logs[0], None
        return record.id, record

    def forget_logs(self, days: int) -> list[str]:
        """Remove the logs of machines that are gone and were last written to that many days ago; returns their ids.

        Raises:
            UsageError: fewer than 0 days.
        """
        if days < 0:
            raise UsageError(f"{days} days is no age", next_step="give 0 or more")
        gone, oldest = [], time.time() - days * 86400
        for log in places.logged():
            if log.stem not in self._records and (written := log.stat().st_mtime) <= oldest:
                item = Item(What.LOG, log.stem, taken([log, places.index(log.stem)])[0], written)
                if remove(Judged(item, goes=True, why=f"purged: {days} days or older")):
                    gone.append(log.stem)
        return gone

    def not_taken(self, name: str) -> None:
        """A machine may be called that.

        Raises:
            ConflictError: another one is.
        """
        if any(name in one.names for one in self._records.values()):
            raise ConflictError(
                f"there is a machine named {name}",
                next_step=f"capsem delete {name}, or choose another name",
            )
