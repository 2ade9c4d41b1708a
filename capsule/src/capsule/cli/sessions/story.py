"""A session's story on the terminal: who it was, what happened in order, what it used, how it ended.

Every name in it came out of a sandbox and is escaped before it is painted.

    for line in header(run, view): ...
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from capsule.cli.sessions.table import Paint, clip, one_line, table
from capsule.sessions.chart import amount, bar, buckets, dollars, number, span, spark
from capsule.sessions.timeline import Beat, Told

_COLOURS = {
    "started": "bold", "ran": "cyan", "wrote": "green", "removed": "yellow", "renamed": "yellow", "read": "dim",
    "requested": "blue", "connected": "blue", "called": "magenta", "used": "magenta", "refused": "red",
    "found": "red", "asked": "yellow", "answered": "yellow", "noted": "yellow", "ended": "bold",
    "began": "bold", "failed": "yellow", "halted": "bold", "copied": "bold", "attended": "cyan",
}  # fmt: skip
_SIGNS = {
    "started": "▶", "ran": "▷", "wrote": "✎", "removed": "✎", "renamed": "✎", "read": "○", "requested": "⇄",
    "connected": "⇄", "called": "◆", "used": "◇", "refused": "✗", "found": "!", "asked": "?", "answered": "?",
    "noted": "·", "ended": "■", "began": "▶", "failed": "▷", "halted": "■", "copied": "▶", "attended": "▷",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """How it is shown: cells a line, colours, letters, the home directory that `~` stands for, how much of it."""

    width: int
    paint: Paint
    ascii_only: bool = False
    home: str = ""
    most: int = 0

    def line(self, text: str) -> str:
        """One line that fits."""
        return clip(text, self.width)


def times(count: int) -> str:
    """A number behind a name, for more than one."""
    return f" \u00d7{count}" if count > 1 else ""


def moment(time: str) -> str:
    """A log's time to the minute."""
    return time[:16].replace("T", " ")


def public(run: Mapping[str, Any]) -> dict[str, Any]:
    """A session for programs: what is kept as JSON text becomes what it is."""
    return {
        key: json.loads(value) if key in ("command", "degraded") and value is not None else value
        for key, value in run.items()
    }


def command_line(run: Mapping[str, Any]) -> str:
    """The command as a person would type it."""
    return shlex.join(json.loads(run["command"])) if run["command"] else "(not started here)"


def told_command(words: Sequence[str], run: Mapping[str, Any], home: str) -> str:
    """The command in few words: the program by its name, paths as `near` has them."""
    first, *rest = words or ("?",)
    return shlex.join([first.rpartition("/")[2] or first, *(near(word, run, home) for word in rest)])


def took(run: Mapping[str, Any]) -> str | None:
    """How long it took, where that is known."""
    return span(run["wall_ms"] * 1000) if run["wall_ms"] is not None else None


def ending(run: Mapping[str, Any]) -> str:
    """How it ended, in a word or two."""
    if run.get("cut_off"):
        return "cut off"
    if run["ended"] is None:
        return "open" if run["command"] else "-"
    if run["cause"] == "exited":
        return "ok" if run["code"] == 0 else f"exit {run['code']}"
    return str(run["cause"] or "?")


def near(path: str, run: Mapping[str, Any], home: str) -> str:
    """A path as a person in the session's directory names it."""
    for sign, top in ((".", run["cwd"]), ("~", home)):
        if top and top != "/" and (path == top or path.startswith(top + "/")):
            return sign + path[len(top) :]
    return path


def header(run: Mapping[str, Any], view: View) -> Iterator[str]:
    """What was asked, under which policy, and where it is on the log."""
    good = run["ended"] is not None and run["code"] == 0
    end = view.paint("green" if good else "red" if run["ended"] else "yellow", ending(run))
    room = view.width - len(run["run"]) - cell_len(ending(run)) - 4
    command = command_line(run)
    if run["command"]:
        command = told_command(json.loads(run["command"]), run, view.home)
    yield f"{view.paint('bold', run['run'])}  {clip(one_line(command), room)}  {end}"
    long = f", {took(run)}" if took(run) else ""
    yield view.line(f"  when    {run['started'][:19].replace('T', ' ')} UTC{long}")
    yield view.line(f"  in      {one_line(near(run['cwd'] or '?', {'cwd': None}, view.home))}")
    if run["policy"] is not None:
        file = one_line(near(str(run["policy_file"]), run, view.home))
        yield view.line(
            f"  policy  {one_line(run['policy'])} ({file}), tier {run['tier']}, audit {run['audit']}"
        )
        if run["degraded"]:
            yield view.paint(
                "yellow", view.line(f"  missing layers: {', '.join(json.loads(run['degraded']))}")
            )
    log = one_line(near(str(run["path"]), run, view.home))
    yield view.line(f"  log     {log}, entries {run['first']} to {run['last']}")
    if run.get("cut_off"):
        why = "  end     not on its log, and nobody records it: killed, or the host went down"
        yield view.paint("yellow", view.line(why))
    if run["state"] != "whole":
        yield view.paint("red", view.line(f"          that log is {run['state'].replace('_', ' ')} now"))


def activity(told: Told, view: View) -> Iterator[str]:
    """Two lines: how much happened over time, and where something was refused."""
    if told.events < 3 or told.end == 0:
        return
    cells = min(56, view.width - 24)
    line = spark(buckets(told.offsets, told.end, cells), ascii_only=view.ascii_only)
    yield ""
    yield f"  events  {view.paint('cyan', line)}  {number(told.events)} in {span(told.end)}"
    if told.refusals:
        line = spark(buckets(told.refusals, told.end, cells), ascii_only=view.ascii_only)
        yield f"  refused {view.paint('red', line)}  {number(len(told.refusals))}"


def beats(told: Told, view: View) -> Iterator[str]:
    """The story, one beat a line; the middle is left out where it is long."""
    shown: Sequence[Beat | None] = told.beats
    if view.most and len(shown) > view.most:
        first = view.most * 2 // 3
        shown = [*told.beats[:first], None, *told.beats[len(told.beats) - (view.most - first) :]]
    yield ""
    for beat in shown:
        if beat is None:
            yield view.paint("dim", f"            … {len(told.beats) - view.most} more; --all shows them")
        else:
            yield from _beat(beat, told, view)
    if told.untold:
        yield view.paint("dim", f"            … and {told.untold} more events, counted below")


def _beat(beat: Beat, told: Told, view: View) -> Iterator[str]:
    sign = ">" if view.ascii_only else _SIGNS.get(beat.verb, "·")
    at = f"+{span(beat.at)}"
    who = f"{one_line(beat.who)} " if beat.who else ""
    begin = f"{at:>9}  {sign} {beat.verb:<9} {who}"
    files = beat.verb in ("wrote", "removed", "renamed", "read")
    if beat.verb == "started":
        command = told_command(json.loads(told.run["command"] or "[]"), told.run, view.home)
        yield f"{at:>9}  {view.paint('bold', f'{sign} started  ')} {clip(one_line(command), view.width - 23)}"
        return
    names = [
        one_line(" → ".join(near(part, told.run, view.home) for part in name.split(" → ")) if files else name)
        + times(count)
        for name, count in beat.names.items()
    ]
    took = f"  {span(beat.took)}" if beat.took else ""
    text = _fit(names, beat.more, view.width - cell_len(begin) - len(took)) + took
    if beat.verb == "ended" and beat.note:
        text = f"{text} {beat.note}"
    painted = view.paint(_COLOURS.get(beat.verb, "dim"), f"{sign} {beat.verb:<9}")
    yield f"{at:>9}  {painted} {who}{text}"
    if beat.note and beat.verb != "ended":
        yield view.paint("dim", view.line(f"{'':>23}{one_line(beat.note)}"))


def _fit(names: Sequence[str], more: int, room: int) -> str:
    """As many names as fit on the line, and how many do not."""
    text = ""
    for at, name in enumerate(names):
        left = len(names) - at - 1 + more
        tail = f", {left} more" if left else ""
        longer = f"{text}, {name}" if text else name
        if text and cell_len(longer + tail) > room:
            return clip(f"{text}, {left + 1} more", max(8, room))
        text = longer
    return clip(text + (f", {more} more" if more else ""), max(8, room))


def sections(told: Told, view: View) -> Iterator[str]:
    """What it used, counted; a section of nothing is left out."""
    yield from _programs(told.programs, view)
    yield from _files(told, view)
    yield from _hosts(told, view)
    yield from _models(told, view)
    if told.tools:
        names = [
            f"{one_line(' '.join(filter(None, (server, tool))))}{times(count)}"
            for (tool, server), count in told.tools.most_common()
        ]
        yield from _named("tools", names, view)
    yield from _denied(told, view)
    for (level, title), count in told.findings.most_common():
        yield view.paint("red", view.line(f"  finding   {one_line(level)}: {one_line(title)}{times(count)}"))
    if told.asks:
        yield from _named("asks", [f"{one_line(what)} {count}" for what, count in told.asks.items()], view)


def _named(title: str, names: Sequence[str], view: View) -> Iterator[str]:
    yield f"  {view.paint('bold', title.ljust(9))} {_fit(names, 0, view.width - 12)}"


def _programs(programs: Counter[str], view: View) -> Iterator[str]:
    if programs:
        names = [one_line(name) + times(count) for name, count in programs.most_common()]
        yield from _named("programs", names, view)


def _files(told: Told, view: View) -> Iterator[str]:
    places = sorted(told.files.items(), key=lambda item: (-item[1].total(), item[0]))
    for at, (place, counts) in enumerate(places[:8]):
        what = ", ".join(f"{count} {operation}" for operation, count in counts.most_common())
        path = clip(one_line(near(place, told.run, view.home)), max(10, view.width - 16 - len(what)))
        title = view.paint("bold", "files".ljust(9)) if at == 0 else " " * 9
        yield f"  {title} {path}  {what}"
    if len(places) > 8:
        yield view.line(f"{'':12}… {len(places) - 8} more directories")


def _hosts(told: Told, view: View) -> Iterator[str]:
    if not told.hosts and not told.names:
        return
    top = max((use.bytes_in + use.bytes_out for use in told.hosts.values()), default=0)
    ranked = sorted(told.hosts.items(), key=lambda item: (-item[1].requests, item[0]))
    rows = [
        (host, use.requests, use.blocked or None, " ".join(sorted(use.methods)) or None, amount(use.bytes_out),
         amount(use.bytes_in), bar(use.bytes_in + use.bytes_out, top, 8, ascii_only=view.ascii_only))
        for host, use in ranked[:12]
    ]  # fmt: skip
    if rows:
        heads = ("HOST", "ASKED", "REFUSED", "METHODS", "OUT", "IN", "")
        yield ""
        for line in table(heads, rows, width=view.width - 2, gives=0, right=(1, 2, 4, 5), paint=view.paint):
            yield f"  {line}"
        if len(ranked) > 12:
            yield f"  … {len(ranked) - 12} more hosts"
    refused = [
        f"{one_line(name)}{times(count)}" for (name, action), count in told.names.items() if action == "block"
    ]
    if refused:
        yield from _named("no name", refused, view)


def _models(told: Told, view: View) -> Iterator[str]:
    if not told.models:
        return
    rows = [
        (name, use.calls, number(use.input_tokens), number(use.cached_tokens), number(use.output_tokens),
         dollars(use.cost) + (" +?" if use.unpriced else ""))
        for name, use in sorted(told.models.items(), key=lambda item: -item[1].cost)
    ]  # fmt: skip
    heads = ("MODEL", "CALLS", "TOKENS IN", "CACHED", "OUT", "COST")
    yield ""
    for line in table(heads, rows, width=view.width - 2, gives=0, right=(1, 2, 3, 4, 5), paint=view.paint):
        yield f"  {line}"


def _denied(told: Told, view: View) -> Iterator[str]:
    real = [found for found in told.denied.values() if not found.probe]
    if real:
        yield ""
        yield f"  {view.paint('red', 'refused')}"
    for found in sorted(real, key=lambda found: -found.count)[:10]:
        target = near(found.target, told.run, view.home)
        yield view.line(
            f"    {one_line(found.program)}  {found.operation}  {one_line(target)}{times(found.count)}"
        )
        why = f"by {found.rule}" if found.rule else "nothing allows it"
        allow = f"; to allow: {found.allow}" if found.allow else ""
        yield view.paint("dim", view.line(f"      {one_line(why + allow)}"))
    if len(real) > 10:
        yield f"    … {len(real) - 10} more kinds"
    probes = sum(found.count for found in told.denied.values() if found.probe)
    if probes:
        yield view.paint(
            "dim", view.line(f"  looked {probes} times for what does not exist on the host either")
        )
