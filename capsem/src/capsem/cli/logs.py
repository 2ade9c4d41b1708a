"""`capsem logs`: what a machine wrote to its console, and what its monitor complained of.

capsem logs -f build
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask


@click.command("logs", epilog="Example: capsem logs -f build")
@click.argument("machine", type=MachineName())
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each piece: from, text.")
def command(*, machine: str, follow: bool, as_json: bool) -> None:
    """Show a machine's console, and before it what its monitor complained of."""
    found = ask("GET", f"/machines/{machine}")
    directory = Path(found["directory"])
    for line in _lines(directory / "monitor.log"):
        if as_json:
            terminal.say_json({"from": "monitor", "text": line})
        else:
            terminal.complain([line])
    place = directory / "console.log"
    shown = 0
    while True:
        data = place.read_bytes() if place.exists() else b""
        if len(data) > shown:
            text = data[shown:].decode(errors="replace").replace("\r\n", "\n")
            if as_json:
                terminal.say_json({"from": "console", "text": text})
            else:
                sys.stdout.write(terminal.plain(text))
                sys.stdout.flush()
            shown = len(data)
        if not follow or not Path(found["socket"]).exists():
            return
        time.sleep(0.2)


def _lines(place: Path) -> list[str]:
    return place.read_text(errors="replace").splitlines() if place.exists() else []
