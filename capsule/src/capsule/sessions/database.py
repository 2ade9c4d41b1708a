"""The database's file: opened, checked, locked for its one writer, moved aside when it is damaged. I/O.

It refuses a file that is not ours alone, one of a newer capsule, and a second writer. WAL: readers never wait, and
what a crash leaves is a whole state. What is lost with the file is nothing: it is made again from the logs.

    with Writer.open(directory) as writer:
        writer.connection.execute("BEGIN IMMEDIATE")
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from capsule.errors import CapsuleError, Fault
from capsule.places import make_private, state_directory
from capsule.sessions.schema import TABLES, VERSION, steps

FILE = "sessions.db"
LOCK = "sessions.lock"
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SessionsError(CapsuleError):
    """The session database cannot be used."""

    fault = Fault.HOST
    exit_code = 125


class DamagedError(SessionsError):
    """The file is no database, or not a whole one."""


class BusyError(SessionsError):
    """Another process is writing."""

    def __init__(self) -> None:
        super().__init__(
            "another capsule is filling the session database", next_step="wait for it, then try again"
        )


def directory() -> Path:
    """Where the database is: `$XDG_STATE_HOME/capsule`, made with mode 0700 where it is missing."""
    place = state_directory()
    try:
        make_private(place)
    except OSError as error:
        raise _unusable(place, error) from error
    return place


def damaged(error: sqlite3.Error) -> bool:
    """Whether the error says that the file is no database, or not a whole one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def reader(place: Path) -> sqlite3.Connection:
    """A connection that can only read.

    Raises:
        SessionsError: there is no database.
    """
    path = place / FILE
    if not path.exists():
        raise SessionsError(
            f"there is no session database at {path}", next_step="run a command with `capsule run` first"
        )
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)


class Writer:
    """The one writer.

    Attributes:
        connection: in autocommit; whoever writes begins and commits.
        notes: what a person should know: a damaged database was moved aside, say.
        recovered: paths of the logs that the database before it knew.
    """

    def __init__(self, place: Path, lock: int) -> None:
        self.place = place
        self.notes: list[str] = []
        self.recovered: list[str] = []
        self._lock = lock
        unclean = os.pread(lock, 1, 0) == b"1"
        os.pwrite(lock, b"1", 0)
        self.connection = self._connect(check=unclean)

    @classmethod
    @contextlib.contextmanager
    def open(cls, place: Path, *, wait: float = 0.0) -> Iterator[Writer]:
        """Open and lock the database, making it where it is missing.

        Args:
            place: its directory.
            wait: seconds to wait for another writer.

        Raises:
            BusyError: another process is writing.
            SessionsError: the file is not ours alone, of a newer capsule, or there is no room for it.
        """
        try:
            lock = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(place / LOCK, error) from error
        try:
            _take(lock, wait)
            try:
                writer = cls(place, lock)
            except OSError as error:
                raise _unusable(place, error) from error
            with writer:
                yield writer
        finally:
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        if kind is None:
            os.ftruncate(self._lock, 0)

    @property
    def file(self) -> Path:
        """The database itself."""
        return self.place / FILE

    def renew(self, why: str) -> None:
        """Begin with an empty database; the damaged one is kept beside it, under a name that says when."""
        self.recovered = _known(self.connection)
        self.connection.close()
        self._keep(why)
        self.connection = self._connect(check=False)

    def _keep(self, why: str) -> None:
        kept = self._aside()
        self.notes.append(f"{why}; it is kept as {kept.name}, and made again from the logs")

    def _connect(self, *, check: bool) -> sqlite3.Connection:
        path = self.place / FILE
        _ours(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=10)
        try:
            return _prepare(connection, path, check=check)
        except SessionsError:
            connection.close()
            raise
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                connection.close()
                raise _refused(path, error) from error
            self.recovered = _known(connection)
            connection.close()
            self._keep(f"the session database was damaged ({error})")
        _ours(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=10)
        try:
            return _prepare(connection, path, check=False)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise _refused(path, error) from error

    def _aside(self) -> Path:
        stem = f"{FILE}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        number = 0
        while (kept := self.place / f"{stem}-{number}").exists():
            number += 1
        (self.place / FILE).rename(kept)
        for companion in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                (self.place / (FILE + companion)).rename(f"{kept}{companion}")
        return kept


GROW = "start it where files may grow that far (`ulimit -f` says how far)"
"""The next step where a limit on the size of files is in the way."""


def _unusable(place: Path, error: OSError) -> SessionsError:
    """What a refusal of the system's means for the one who asked."""
    step = "check its owner and mode"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        step = "make room there, then try again"
    elif error.errno == errno.EFBIG:
        step = GROW
    elif error.errno == errno.EROFS:
        step = "mount it writable, or name another place with XDG_STATE_HOME"
    return SessionsError(f"the session database cannot be used: {place}: {error.strerror}", next_step=step)


def outgrown(error: sqlite3.Error) -> bool:
    """Whether a file could not grow for a limit on its size: SQLite only says that a write failed."""
    failed = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
    return failed and resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _refused(path: Path, error: sqlite3.Error) -> SessionsError:
    """The same for one of SQLite's."""
    full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    step = "make room there, then try again" if full else "check the disk and the file's owner"
    step = GROW if outgrown(error) else step
    return SessionsError(f"{path} cannot be opened: {error}", next_step=step)


def _take(lock: int, wait: float) -> None:
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise BusyError from None
            time.sleep(0.02)
        else:
            return


def _ours(path: Path) -> None:
    """Make the file with mode 0600, or see that it is a regular one of ours that nobody else reads."""
    try:
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
        )
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}:
            raise _unusable(path, error) from error
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise SessionsError(
            f"{path} cannot be opened: {why}", next_step="move it away, or check its owner"
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise SessionsError(
                f"{path} is not a file that is ours alone", next_step=f"move it away, or chmod 600 {path}"
            )
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, path: Path, *, check: bool) -> sqlite3.Connection:
    connection.execute("PRAGMA page_size = 8192")  # of a new file; rows are long
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -65536")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise SessionsError(
            f"{path} was made by a newer capsule (version {version}; this one knows {VERSION})",
            next_step="use that one, or move the file away: it is made again from the logs",
        )
    if check and (problem := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise _damage(problem)
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise _damage("it has tables, and no version")
    try:
        _bring(connection, version)
    except sqlite3.OperationalError as error:
        # A file of another kind of database has a version too; nothing before looked into it.
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise _damage(f"its version is {version}, and it has not the tables of that: {error}") from error
    return connection


def _bring(connection: sqlite3.Connection, version: int) -> None:
    """From this version to ours; every column that is written or asked for is there afterwards."""
    if version < VERSION:
        connection.execute("BEGIN IMMEDIATE")
        for statement in steps(version):
            connection.execute(statement)
        connection.execute("COMMIT")
    for table in TABLES:
        connection.execute(
            f"SELECT {', '.join(f'{table.name}.{name}' for name in table.names)} FROM {table.name} LIMIT 0"
        )


def _damage(problem: str) -> sqlite3.DatabaseError:
    damage = sqlite3.DatabaseError(problem)
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return damage


def _known(connection: sqlite3.Connection) -> list[str]:
    """The logs a damaged database still tells of."""
    try:
        return [str(path) for (path,) in connection.execute("SELECT path FROM logs")]
    except sqlite3.Error:
        return []
