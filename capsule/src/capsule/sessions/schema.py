"""The tables of the session database, column by column, and the steps from one version of them to the next. Pure.

What it refuses: a column without a meaning in words; `docs/formats/sessions.md` shows them, and a test compares.

    for statement in steps(0): connection.execute(statement)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

VERSION = 2
"""`PRAGMA user_version` of a database of this form."""

SEQ_BITS = 40
"""An event's id is the log's number times 2^40 plus its seq: rows of one log lie together, in its order."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: `columns` are `(name, type, meaning)`; `indexes` are lists of columns."""

    name: str
    about: str
    columns: tuple[tuple[str, str, str], ...]
    key: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(name for name, _, _ in self.columns)

    def create(self) -> Iterator[str]:
        """The statements that make it."""
        parts = [f"{name} {kind}" for name, kind, _ in self.columns]
        if self.key:
            parts.append(f"PRIMARY KEY ({', '.join(self.key)})")
        yield f"CREATE TABLE {self.name} ({', '.join(parts)})"
        for columns in self.indexes:
            yield f"CREATE INDEX {self.name}_{'_'.join(columns)} ON {self.name} ({', '.join(columns)})"

    def insert(self) -> str:
        """The statement that adds one row."""
        return (
            f"INSERT INTO {self.name} ({', '.join(self.names)}) VALUES ({', '.join('?' * len(self.columns))})"
        )


_ID = ("id", "INTEGER PRIMARY KEY", "of the event in `events`")
_RUN = ("run", "TEXT", "`r-…`, null where it belongs to none")
_PROGRAM = ("program", "TEXT", "path of the executable")
_PID = ("pid", "INTEGER", "inside the sandbox")
_ERROR = ("error", "TEXT", "why it failed")
_US = ("duration_us", "INTEGER", "how long it took")
_ACTION = ("action", "TEXT", "`allow`, `block` or `rewrite`")
_REPORTED = ("reported_by", "TEXT", "`guest` where a machine says so of itself; null where the host saw it")
_WHOSE = (
    "reported_by",
    "TEXT",
    "`guest` where a machine says which program it is; null where the host saw it",
)

LOGS = Table(
    "logs",
    "the logs that are indexed, and up to where",
    (
        ("number", "INTEGER PRIMARY KEY", "of this log here"),
        ("log", "TEXT NOT NULL UNIQUE", "its id: 128 bits, hex"),
        ("path", "TEXT NOT NULL", "where it was read last"),
        ("entries", "INTEGER NOT NULL", "how many entries are indexed; the next seq"),
        ("blocks", "INTEGER NOT NULL", "how many blocks"),
        ("last", "INTEGER NOT NULL", "byte offset of the last block that is indexed"),
        ("sealed", "BLOB NOT NULL", "its chain digest, header and entries without a checkpoint line"),
        ("prev", "BLOB NOT NULL", "the digest by which it names the block before it"),
        (
            "state",
            "TEXT NOT NULL",
            "`whole`, or why it is not read on: `replaced`, `rolled_back`, `broken`, `missing`",
        ),
        ("why", "TEXT", "in words, when it is not whole"),
    ),
)

RUNS = Table(
    "runs",
    "the sessions: one row a run",
    (
        ("log", "INTEGER NOT NULL", "number of its log"),
        ("run", "TEXT NOT NULL", "`r-…`"),
        ("first", "INTEGER NOT NULL", "seq of its first entry"),
        (
            "last",
            "INTEGER NOT NULL",
            "seq of its last entry so far; rows of a run have ids from `first` to `last`",
        ),
        ("started", "TEXT NOT NULL", "time of its first entry"),
        ("command", "TEXT", "JSON list; null where the log has no `run.started` of it"),
        ("cwd", "TEXT", "working directory"),
        ("policy", "TEXT", "the policy's name"),
        ("policy_file", "TEXT", "a path, or `preset:NAME`"),
        ("policy_digest", "TEXT", "`blake3:…` over its sources"),
        ("plan", "TEXT", "digest of the plan"),
        ("tier", "TEXT", "`full`, `confined` or what else was enforced"),
        ("degraded", "TEXT", "JSON list of layers that were missing"),
        ("audit", "TEXT", "`run`, `writes` or `all`: below `all` nothing is known of reads"),
        ("uid", "INTEGER", "who ran it"),
        ("host", "TEXT", "name of the machine"),
        ("version", "TEXT", "of capsule"),
        ("ended", "TEXT", "time of `run.ended`; null while it runs, or when it was cut off"),
        ("cause", "TEXT", "of the end, as in report.md"),
        ("code", "INTEGER", "exit code"),
        ("signal", "TEXT", "that ended it"),
        ("reason", "TEXT", "of a limit or refusal"),
        ("denials", "INTEGER", "counted by the run itself"),
        ("executed", "INTEGER", "programs started, counted by the run itself"),
        ("written", "INTEGER", "changes to files, counted by the run itself"),
        ("wall_ms", "INTEGER", "how long it took"),
        ("cpu_ms", "INTEGER", "processor time"),
        ("max_rss_bytes", "INTEGER", "most memory"),
    ),
    key=("log", "run"),
    indexes=(("started",), ("run",)),
)

EVENTS = Table(
    "events",
    "every entry of every log, as an event",
    (
        ("id", "INTEGER PRIMARY KEY", "number of the log times 2^40, plus `seq`"),
        _RUN,
        ("seq", "INTEGER NOT NULL", "place in its log"),
        ("time", "TEXT NOT NULL", "RFC 3339, UTC, microseconds"),
        ("type", "TEXT NOT NULL", "of the event (events.md); of the entry where it is no event"),
        ("entry", "TEXT NOT NULL", "type of the entry on the log"),
        ("event", "TEXT NOT NULL", "the event as JSON"),
    ),
    indexes=(("run", "id"), ("type", "time")),
)

DECISIONS = Table(
    "decisions",
    "what was decided about events, by what",
    (
        _ID,
        _RUN,
        ("type", "TEXT NOT NULL", "of the event"),
        _ACTION,
        (
            "by",
            "TEXT",
            "`grant`, `rule`, `ask`, `budget`, `secret`, `address`, `name`, `protocol`, `default`",
        ),
        ("rule", "TEXT", "id of the rule"),
        ("file", "TEXT", "where the rule is written"),
        ("line", "INTEGER", "and its line"),
        ("owner", "TEXT", "`user` or `corp`"),
        ("priority", "INTEGER", "of the rule"),
        ("reason", "TEXT", "in words"),
        ("missing", "TEXT", "JSON list of fields that the rule read and that were absent"),
    ),
)

FINDINGS = Table(
    "findings",
    "detection rules that fired",
    (
        _ID,
        _RUN,
        ("rule", "TEXT", "id of the rule"),
        ("title", "TEXT", "of the rule"),
        ("level", "TEXT", "`informational` to `critical`"),
        ("file", "TEXT", "where the rule is written"),
        ("line", "INTEGER", "and its line"),
        ("events", "TEXT", "JSON list of ids of the events that led to it"),
        ("count", "INTEGER", "how many events, or different values, of a correlation"),
    ),
)

HTTP = Table(
    "http",
    "HTTP requests",
    (
        _ID,
        _RUN,
        ("http_id", "TEXT", "the request's own id"),
        _PROGRAM,
        _PID,
        ("method", "TEXT", ""),
        ("scheme", "TEXT", "`http`, `https`"),
        ("host", "TEXT", ""),
        ("port", "INTEGER", ""),
        ("path", "TEXT", ""),
        ("query", "TEXT", ""),
        ("version", "TEXT", "`1.1`, `2`"),
        ("status", "INTEGER", "of the answer"),
        ("content_type", "TEXT", "of the request's body"),
        ("bytes_out", "INTEGER", "the request's body"),
        ("bytes_in", "INTEGER", "the answer's body"),
        _US,
        ("first_byte_us", "INTEGER", "until the answer began"),
        ("address", "TEXT", "that was dialled"),
        ("secrets", "TEXT", "JSON list of names of secrets used"),
        _ACTION,
        _ERROR,
        _WHOSE,
    ),
    indexes=(("host",),),
)

DNS = Table(
    "dns",
    "questions to the resolver",
    (
        _ID,
        _RUN,
        _PROGRAM,
        _PID,
        ("name", "TEXT", "asked for"),
        ("qtype", "TEXT", ""),
        ("transport", "TEXT", "`udp`, `tcp`"),
        ("answer", "TEXT", ""),
        ("rcode", "TEXT", ""),
        ("labels", "INTEGER", "how many"),
        ("length", "INTEGER", "of the name"),
        ("entropy", "TEXT", "of the longest label, bits a character"),
        ("count", "INTEGER", "equal questions within a second"),
        _ACTION,
        _WHOSE,
    ),
    indexes=(("name",),),
)

TCP = Table(
    "tcp",
    "connections",
    (
        _ID,
        _RUN,
        _PROGRAM,
        _PID,
        ("host", "TEXT", ""),
        ("address", "TEXT", "an IP address, or `unix:PATH`"),
        ("port", "INTEGER", ""),
        ("sni", "TEXT", "server name of TLS"),
        ("tls", "INTEGER", "1 where TLS was seen"),
        ("bytes_out", "INTEGER", ""),
        ("bytes_in", "INTEGER", ""),
        _US,
        _ACTION,
        _ERROR,
        _WHOSE,
    ),
    indexes=(("host",),),
)

MODEL = Table(
    "model",
    "calls of language models",
    (
        _ID,
        _RUN,
        ("http_id", "TEXT", "of its request"),
        _PROGRAM,
        ("provider", "TEXT", ""),
        ("api", "TEXT", ""),
        ("name", "TEXT", "of the model"),
        ("stream", "INTEGER", "1 where the answer was streamed"),
        ("messages", "INTEGER", "how many the request held"),
        ("input_tokens", "INTEGER", ""),
        ("cached_tokens", "INTEGER", ""),
        ("cache_write_tokens", "INTEGER", ""),
        ("output_tokens", "INTEGER", ""),
        ("reasoning_tokens", "INTEGER", ""),
        ("cost_microdollars", "INTEGER", "null where there is no price"),
        ("stop_reason", "TEXT", ""),
        ("response_id", "TEXT", ""),
        ("previous", "TEXT", "id of the event of the turn before"),
        ("unknown", "INTEGER", "1 where the shape was not understood"),
        _ERROR,
    ),
)

TOOL = Table(
    "tool",
    "tool calls: of the SDK (`call`), of MCP (`mcp`), and those a model asked for (`model`)",
    (
        ("id", "INTEGER NOT NULL", "of the event in `events`"),
        ("place", "INTEGER NOT NULL", "among those of one event, from 0"),
        _RUN,
        ("origin", "TEXT NOT NULL", "`call`, `mcp` or `model`"),
        ("tool", "TEXT", "its name"),
        ("method", "TEXT", "of MCP, or the function of the SDK"),
        ("server", "TEXT", "of MCP"),
        ("call", "TEXT", "number or id of the call"),
        ("outcome", "TEXT", "null at a call's start; `returned`, `raised`, … at its end"),
        ("arguments_size", "INTEGER", "bytes"),
        ("answer_size", "INTEGER", "bytes"),
        _US,
        _ERROR,
    ),
    key=("id", "place"),
)

PROCESS = Table(
    "process",
    "programs started",
    (
        _ID,
        _RUN,
        _PID,
        ("path", "TEXT", "of the executable"),
        ("name", "TEXT", "its last segment"),
        ("command", "TEXT", "arguments, joined by spaces"),
        _REPORTED,
    ),
    indexes=(("name",),),
)

FILE = Table(
    "file",
    "files written and, where the audit level says so, read",
    (
        _ID,
        _RUN,
        _PROGRAM,
        _PID,
        ("operation", "TEXT", "`read`, `write`, `create`, `remove`, `rename`, `link`, `change`"),
        ("path", "TEXT", "resolved"),
        ("source", "TEXT", "what it was called before, of a rename or link"),
        _REPORTED,
    ),
    indexes=(("path",),),
)

DENIALS = Table(
    "denials",
    "what was refused (report.md)",
    (
        _ID,
        _RUN,
        _PROGRAM,
        _PID,
        ("operation", "TEXT", ""),
        ("syscall", "TEXT", ""),
        ("target", "TEXT", "a path, an address, or arguments"),
        ("layer", "TEXT", "that refused"),
        ("errno", "TEXT", "as the program saw it"),
        ("rule", "TEXT", "the line that refused; null: nothing allowed it"),
        ("file", "TEXT", "where that line is"),
        ("line", "INTEGER", "and its number"),
        ("allow", "TEXT", "what would allow it"),
        ("probe", "INTEGER", "1 where the program looked for what does not exist on the host either"),
        ("count", "INTEGER", "how many times"),
    ),
)

ASKS = Table(
    "asks",
    "questions to a person, and how they ended",
    (
        _ID,
        _RUN,
        ("ask", "TEXT", "id of the question"),
        ("what", "TEXT", "what was asked about; null in an answer"),
        ("allowed", "INTEGER", "1 where the answer was yes; null in a question"),
        ("outcome", "TEXT", "null: the question; else how it ended"),
        ("by", "TEXT", "who answered"),
        ("rule", "TEXT", "id of the rule that asked"),
        ("reason", "TEXT", ""),
    ),
)

COMMANDS = Table(
    "commands",
    "commands in a machine: a row at the start of one, a row at its end",
    (
        _ID,
        _RUN,
        ("command", "TEXT", "its id, the same in both; unique since the machine's last start"),
        ("argv", "TEXT", "JSON list; null at its end"),
        ("cwd", "TEXT", "working directory; null at its end"),
        ("uid", "INTEGER", "who it runs as; null at its end"),
        _ACTION,
        ("outcome", "TEXT", "null: its start; else `exited`, `signal`, `timed_out` or `failed` (to start)"),
        ("code", "INTEGER", "exit code"),
        ("signal", "INTEGER", "that ended it"),
        ("errno", "TEXT", "why it did not start"),
        ("cpu_ms", "INTEGER", "processor time"),
    ),
)

TABLES = (
    LOGS, RUNS, EVENTS, DECISIONS, FINDINGS, HTTP, DNS, TCP, MODEL, TOOL, PROCESS, FILE, DENIALS, ASKS,
    COMMANDS,
)  # fmt: skip
INDEXED = TABLES[2:]
"""The tables that have rows for single entries."""

_SECOND = {"http", "dns", "tcp", "process", "file"}
"""Tables that version 2 gave their last column."""


def _first() -> Iterator[str]:
    """The tables of version 1."""
    for table in TABLES:
        if table is not COMMANDS:
            columns = table.columns[:-1] if table.name in _SECOND else table.columns
            yield from replace(table, columns=columns).create()


def _second() -> Iterator[str]:
    """Who says so, and commands in machines; logs of machines are read again, since rows of theirs were missing."""
    for table in TABLES:
        if table.name in _SECOND:
            name, kind, _ = table.columns[-1]
            yield f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}"
    yield from COMMANDS.create()
    machines = (
        "SELECT number FROM logs WHERE state <> 'missing' AND number IN "
        f"(SELECT id >> {SEQ_BITS} FROM events WHERE entry >= 'machine.' AND entry < 'machine/')"
    )
    yield f"UPDATE logs SET entries = 0, blocks = 0, last = 0 WHERE number IN ({machines})"
    again = "SELECT number FROM logs WHERE blocks = 0"
    for table in INDEXED:
        if table is not COMMANDS and table is not EVENTS:
            yield f"DELETE FROM {table.name} WHERE id >> {SEQ_BITS} IN ({again})"
    yield f"DELETE FROM runs WHERE log IN ({again})"
    yield f"DELETE FROM events WHERE id >> {SEQ_BITS} IN ({again})"


MIGRATIONS: tuple[tuple[str, ...], ...] = (tuple(_first()), tuple(_second()))
"""`MIGRATIONS[n]` leads from version n to n + 1."""


def steps(version: int) -> Iterator[str]:
    """The statements that lead from `version` to this one's."""
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        yield from statements
        yield f"PRAGMA user_version = {number}"
