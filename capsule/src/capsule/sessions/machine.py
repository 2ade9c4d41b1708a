"""What entries `machine.…` of a machine's log tell (docs/formats/machine-monitor.md), each in a few words. Pure.

They are what a machine's monitor recorded of commands, files and its life. It refuses to take what the guest says of
itself for what the host saw: such a step is of `guest`.

    Machine().step("machine.exec", {"event": {"id": "host-1"}, "process": {"name": "ls", "command": "ls -l"}})
    # Step(verb='ran', name='ls -l', program='ls')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capsule.rules.entry import seconds, section, text

PREFIX, GUEST = "machine.", "guest."
MOST_COMMANDS = 4096
"""Whose end is awaited."""
_REFUSING = {"block", "ask"}
_VERBS = {"read": "read", "remove": "removed", "rename": "renamed"}

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One entry, told.

    Attributes:
        verb: of a beat (`capsule.sessions.timeline`).
        name: what it was done to.
        who: `host`: the machine's user from outside; `guest`: the machine says so of itself.
        note: a reason.
        program: the name of a program that was started.
        file: a directory, and what was done to a file in it.
    """

    verb: str
    name: str
    who: str = ""
    note: str = ""
    program: str = ""
    file: tuple[str, str] | None = None


class Machine:
    """One machine's story, told entry by entry: an end belongs to the newest command of its id."""

    def __init__(self) -> None:
        self._commands: dict[str, str] = {}

    def step(self, entry: str, event: Json) -> Step | None:
        """What an entry tells; None for one with nothing to say by itself."""
        match entry:
            case "machine.exec":
                return self._exec(event)
            case "machine.exit":
                return self._exit(event)
            case "machine.attended":
                return self._attended(event)
            case "machine.deadline" | "machine.deadline_came":
                return _deadline(event, came=entry.endswith("_came"))
            case "machine.file":
                return _file(event)
            case "machine.dial":
                return _dial(event)
            case "guest.process":
                return _ran(event)
            case "guest.file":
                return _changed(event)
            case "guest.lost":
                return _lost(event)
            case "machine.marked" | "guest.exit":
                return None
            case _:
                return _life(entry.removeprefix(PREFIX).removeprefix(GUEST), event)

    def _exec(self, event: Json) -> Step:
        process = section(event, "process")
        name = text(process.get("command")) or text(process.get("path")) or "?"
        if (why := _refused(event)) is not None:
            return Step("refused", f"run {name}", "host", why)
        program = text(process.get("name")) or "?"
        act = text(section(event, "event").get("id"))
        if act is not None and len(self._commands) < MOST_COMMANDS:
            self._commands[act] = program
        return Step("ran", name, program=program)

    def _exit(self, event: Json) -> Step | None:
        program = self._commands.pop(text(event.get("exec")) or "", "a command")
        if event.get("timed_out") is True:
            return Step("failed", f"{program}: its time was over")
        if (errno := text(event.get("errno"))) is not None:
            return Step("failed", f"{program}: {errno}")
        if isinstance(event.get("signal"), int):
            return Step("failed", f"{program}: signal {event['signal']}")
        return None if event.get("code") == 0 else Step("failed", f"{program}: exit {event.get('code')}")

    def _attended(self, event: Json) -> Step:
        program = self._commands.get(text(event.get("exec")) or "", "a command")
        pid, how = event.get("pid"), text(event.get("as")) or "?"
        size = f"its terminal has {event.get('rows')} rows, {event.get('columns')} columns"
        notes = {"connect": "", "stdin": "its input", "kill": f"signal {event.get('signal')}", "resize": size}
        note = notes.get(how, how)
        return Step(
            "attended", f"{program}, process {pid}" if isinstance(pid, int) else program, "host", note
        )


def _refused(event: Json) -> str | None:
    decision = section(event, "decision")
    if text(decision.get("action")) not in _REFUSING:
        return None
    rule = section(decision, "rule")
    where = f" ({text(rule.get('file'))}:{rule.get('line')})" if rule else ""
    return (text(decision.get("reason")) or text(decision.get("by")) or "") + where


def _file(event: Json) -> Step:
    file = section(event, "file")
    operation, path = text(file.get("operation")) or "read", text(file.get("path")) or "?"
    if (why := _refused(event)) is not None:
        return Step("refused", f"{operation} {path}", "host", why)
    done = None if operation == "read" else (path.rpartition("/")[0] or "/", operation)
    return Step(_VERBS.get(operation, "wrote"), path, "host", file=done)


def _ran(event: Json) -> Step:
    process = section(event, "process")
    name = text(process.get("command")) or text(process.get("path")) or "?"
    program = text(process.get("name")) or "?"
    return Step("ran", name, "guest", program=f"{program} (guest)")


def _changed(event: Json) -> Step:
    file = section(event, "file")
    operation, path = text(file.get("operation")) or "write", text(file.get("path")) or "?"
    source = text(file.get("from"))
    done = (path.rpartition("/")[0] or "/", operation)
    return Step(_VERBS.get(operation, "wrote"), f"{source} → {path}" if source else path, "guest", file=done)


def _lost(event: Json) -> Step:
    what, count = text(event.get("what")) or "?", event.get("count")
    by = "guest" if event.get("by") == "guest" else ""
    if what == "directories":
        return Step("noted", f"{count} directories are not watched", by)
    why = "the guest did not send them" if by else "too many to record"
    return Step("noted", f"reports of {what} are lost", by, f"{count} at least: {why}")


def _dial(event: Json) -> Step | None:
    dial = section(event, "dial")
    why = _refused(event)
    return (
        None
        if why is None
        else Step("refused", f"connect {text(dial.get('host'))}:{dial.get('port')}", "", why)
    )


def _deadline(event: Json, *, came: bool) -> Step:
    after = seconds(event.get("after_ms")) or "?"
    if came:
        return Step("noted", f"its time of {after} was over")
    then = "" if event.get("after_ms") is None else f": ends after {after}"
    return Step("noted", f"deadline {text(event.get('reason')) or '?'}{then}", "host")


def _life(what: str, event: Json) -> Step | None:
    reason = text(event.get("reason")) or ""
    match what:
        case "started":
            how = "resumed" if event.get("resumed") is True else "from a template"
            if not event.get("resumed") and not event.get("template"):
                how = "booted"
            return Step("began", f"{how}, {text(event.get('accelerator')) or '?'}")
        case "stopped":
            return Step("halted", "as asked" if event.get("asked") is True else "by itself", note=reason)
        case "crashed" | "suspended":
            return Step("halted", what, note=reason)
        case "copied":
            return Step("copied", "for a branch" if event.get("memory") is True else "for a fork")
        case "branched":
            return Step("began", f"as a branch of {text(event.get('machine')) or '?'}")
        case "mcp_started":
            server, decision = text(event.get("server")) or "?", section(event, "decision")
            rule = section(decision, "rule")
            where = f" ({text(rule.get('file'))}:{rule.get('line')})" if text(rule.get("file")) else ""
            return Step(
                "began", f"MCP server {server}, under {text(event.get('policy')) or '?'}{where}", "host"
            )
        case "mcp_ended":
            code = event.get("code")
            name = f"MCP server {text(event.get('server')) or '?'}"
            return (
                Step("halted", name, "host") if code == 0 else Step("failed", f"{name}: exit {code}", "host")
            )
        case "shared":
            return Step("noted", f"shares {text(event.get('directory')) or '?'} live", "host")
        case "share_refused":
            act, path = text(event.get("act")) or "?", text(event.get("path")) or ""
            return Step("refused", f"{act} {path} in the share", "host", text(event.get("why")) or "")
        case _:
            problems = event.get("problems")
            said = [found for one in problems if (found := text(one))] if isinstance(problems, list) else []
            return Step("noted", what.replace("_", " "), note=reason or "; ".join(said))
