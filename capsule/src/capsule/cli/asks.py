"""`capsule asks`: what runs wait for an answer to, with what a person needs to judge it."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterable
from typing import Any

import click

from capsule.cli import terminal
from capsule.cli.seam import Seam, UnreachedError
from capsule.unprintable import made_visible

_LONGEST = 300
_AGAIN = 0.1
"""Seconds after which an egress that is not there is looked for again."""


@click.command("asks", epilog="Example: capsule asks")
@click.option(
    "--wait", metavar="SECONDS", type=click.IntRange(1, 120), help="Wait for one when there is none."
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(wait: int | None, as_json: bool) -> int:
    """Show what waits for an answer: requests that a rule asks about, and hosts that no entry lists.

    Exits 0 when something waits, else 1.
    """
    asks = _asks(Seam(), wait or 0)
    if as_json:
        terminal.say_json({"asks": asks})
        return 0 if asks else 1
    for number, ask in enumerate(asks):
        if number:
            terminal.say()
        for line in lines_of(ask, time.time() * 1000):
            terminal.say(line)
    if not asks:
        terminal.say("nothing waits for an answer")
    return 0 if asks else 1


def _asks(seam: Seam, wait: int) -> list[dict[str, Any]]:
    """What waits, or what comes within `wait` seconds; the run that asks may only be starting."""
    until = time.monotonic() + wait
    while True:
        left = until - time.monotonic()
        try:
            asks: list[dict[str, Any]] = seam.get("/asks", max(0, math.ceil(left)))["asks"]
        except UnreachedError:
            asks = []
            time.sleep(max(0.0, min(_AGAIN, left)))
        if asks or left <= 0:
            return asks


def lines_of(untrusted_ask: dict[str, Any], now_ms: float) -> list[str]:
    """An ask for a person; what a program said stays on its line."""
    ask = untrusted_ask
    rule = ask.get("rule")
    left = max(0, math.ceil((ask["expires"] - now_ms) / 1000))
    lines = [f"{_flat(ask['id'])}  {what_of(ask['event'])}  ({left} s left)"]
    argv, command = (_typed(ask.get(name) or ()) for name in ("argv", "command"))
    program = ask.get("program")
    if program or argv:
        by = terminal.near(_flat(program)) if program else "a program"
        lines.append(f"  by {by}{f': {argv}' if argv else ''}")
    lines.append(f"  in run {_flat(ask['run'])}{f': {command}' if command and command != argv else ''}")
    if rule:
        why = f": {_flat(rule['reason'])}" if rule.get("reason") else ""
        lines.append(
            f"  rule {_flat(rule.get('id'))} ({terminal.near(_flat(rule.get('file')))}:{rule.get('line')}){why}"
        )
    else:
        lines.append("  no host entry lists it (network: unlisted: ask)")
    lines += [
        f"  before: {_flat(past.get('what'))}: {_flat(past.get('outcome'))}"
        for past in ask.get("asked_before") or ()
    ]
    return [*lines, f"  capsule answer {_flat(ask['id'])} allow|deny"]


def what_of(untrusted_event: dict[str, Any]) -> str:
    """One event in a few words."""
    event = untrusted_event
    http, model = event.get("http"), event.get("model")
    if isinstance(http, dict):
        return _flat(f"{http.get('method', '')} {http.get('url', '')}")
    if isinstance(model, dict):
        return _flat(f"model call to {model.get('provider', '')} {model.get('name', '')}")
    mcp = event.get("mcp")
    if isinstance(mcp, dict):
        given = mcp.get("arguments")
        shown = json.dumps(given) if given else ""
        if not given and mcp.get("arguments_size"):
            shown = f"({mcp['arguments_size']} bytes of arguments, sha256 {mcp.get('arguments_sha256', '?')})"
        way = "from" if mcp.get("direction") == "in" else "to"
        words = (f"mcp {way}", mcp.get("server", ""), mcp.get("method", ""), mcp.get("tool", ""), shown)
        return _flat(" ".join(str(word) for word in words if word))
    for kind, name in (("dns", "name"), ("tcp", "host"), ("websocket", "host")):
        section = event.get(kind)
        if isinstance(section, dict):
            port = f":{section['port']}" if "port" in section else ""
            return _flat(f"{kind} {section.get(name, '')}{port}")
    return _flat(event.get("event", {}).get("type", "something"))


def _typed(untrusted_argv: Iterable[object]) -> str:
    """A command as somebody in this directory would type it."""
    return _flat(" ".join(shlex.quote(terminal.near(str(word))) for word in untrusted_argv))


def _flat(untrusted: object) -> str:
    # A line break in a URL or an argument would let a program write lines of its own into the question.
    text = made_visible(str(untrusted))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
