"""What happened to a machine, told from the entries of its log. Pure: lines come in, events go out.

Refuses nothing that stands on a log: an entry that is not about the machine is passed over, as is half of a last line.

    list(told(log.splitlines()))[0].what          # 'started'
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from capsule.rules.entry import seconds

_PREFIX = "machine."
_QUIET = {"marked", "exit"}


class Happened(msgspec.Struct, frozen=True):
    """One event.

    Attributes:
        time: RFC 3339, UTC.
        what: the kind of entry without `machine.`.
        detail: of a command its words, of an end its reason; empty where there is nothing to say.
        outcome: how a command ended, `exit 3`; `refused`; empty where it does not apply.
        seq: of the entry on the log.
    """

    time: str
    what: str
    detail: str
    outcome: str
    seq: int


def told(lines: Iterable[bytes]) -> Iterator[Happened]:
    """The events on a log, in order; a command has the outcome of its end."""
    entries = [found for line in lines if (found := _entry(line)) is not None]
    ends, commands = _ends(entries), dict[str, str]()
    for entry in entries:
        what = entry["type"].removeprefix(_PREFIX)
        if what in _QUIET:
            continue
        detail = _attended(entry, commands) if what == "attended" else _detail(what, entry)
        if what == "exec" and isinstance(entry.get("event"), dict):
            commands[str(entry["event"].get("id"))] = detail
        yield Happened(entry["time"], what, detail, _outcome(entry, ends.get(entry["seq"])), entry["seq"])


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(found, dict) or not str(found.get("type", "")).startswith(_PREFIX):
        return None
    return found if isinstance(found.get("seq"), int) and isinstance(found.get("time"), str) else None


def _detail(what: str, entry: dict[str, Any]) -> str:
    match what:
        case "exec":
            return " ".join(map(str, entry.get("argv", ())))
        case "file":
            return f"{entry.get('operation', '')} {entry.get('target', '')}"
        case "started":
            how = (
                "resumed"
                if entry.get("resumed")
                else "from a template"
                if entry.get("template")
                else "booted"
            )
            return f"{how}, {entry.get('accelerator', '')}"
        case "copied":
            return f"{'branch' if entry.get('memory') else 'fork'} {entry.get('copy', '')}"
        case "branched":
            return f"from {entry.get('machine', '')}"
        case "stopped":
            return "" if entry.get("asked") else "by itself"
        case "shared":
            return f"{entry.get('directory', '')} live"
        case "share_refused":
            return f"{entry.get('act', '')} {entry.get('path', '')}: {entry.get('why', '')}"
        case "deadline":
            return f"{entry.get('reason', '')}{_after(entry, ': ends after ')}"
        case "deadline_came":
            return _after(entry, "was set to ")
        case _:
            return str(entry.get("reason") or "")


def _attended(entry: dict[str, Any], commands: dict[str, str]) -> str:
    """How, and to which command: ids begin again when the machine does, and the newest of one is meant."""
    how = str(entry.get("as", ""))
    if how == "kill":
        how = f"signal {entry.get('signal')}"
    elif how == "resize":
        how = f"terminal of {entry.get('rows')} rows, {entry.get('columns')} columns"
    return f"{how}, process {entry.get('pid', '?')}: {commands.get(str(entry.get('exec')), '?')}"


def _after(entry: dict[str, Any], words: str) -> str:
    after = seconds(entry.get("after_ms"))
    return "" if after is None else words + after


def _ends(entries: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The end of each command, by the seq of its start: ids begin again when the machine does."""
    begun: dict[Any, int] = {}
    found = {}
    for entry in entries:
        event = entry.get("event")
        if entry["type"] == "machine.exec" and isinstance(event, dict):
            begun[str(event.get("id"))] = entry["seq"]
        elif entry["type"] == "machine.exit" and str(entry.get("exec")) in begun:
            found[begun.pop(str(entry.get("exec")))] = entry
    return found


def _outcome(entry: dict[str, Any], end: dict[str, Any] | None) -> str:
    decision = entry.get("decision")
    if isinstance(decision, dict) and decision.get("action") == "block":
        return "refused"
    if end is None:
        return ""
    if end.get("timed_out"):
        return "timed out"
    if end.get("errno"):
        return str(end["errno"])
    return f"signal {end['signal']}" if end.get("signal") else f"exit {end.get('code')}"
