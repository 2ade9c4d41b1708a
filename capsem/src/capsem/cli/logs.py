"""`capsem logs`: what a machine wrote to its console, and what its monitor complained of.

capsem logs -f build
"""

from __future__ import annotations

import codecs
import io
import sys
import time
from pathlib import Path

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask
from capsule.unprintable import made_visible

_CHUNK = 1 << 16


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
    console = _Console(directory / "console.log")
    while True:
        # Looked at before the console is read: what it writes last is shown, too.
        over = not follow or not Path(found["socket"]).exists()
        while text := console.more():
            _show(text, as_json)
        if over:
            break
        time.sleep(0.2)
    if text := console.rest():
        _show(text, as_json)


def _show(text: str, as_json: bool) -> None:
    if as_json:
        terminal.say_json({"from": "console", "text": text})
        return
    sys.stdout.write(made_visible(text, but="\n"))
    sys.stdout.flush()


class _Console:
    """A file that grows; each byte of it is read once. A character that is not whole yet waits for its rest."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._at = 0
        self._text = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8")("replace"), translate=True
        )

    def more(self) -> str:
        """What came since; nothing when there is no more."""
        while True:
            try:
                with self._place.open("rb") as file:
                    file.seek(self._at)
                    data = file.read(_CHUNK)
            except FileNotFoundError:
                return ""
            self._at += len(data)
            if not data or (text := self._text.decode(data)):
                return text if data else ""

    def rest(self) -> str:
        """What is not whole, and will not be."""
        return self._text.decode(b"", final=True)


def _lines(place: Path) -> list[str]:
    return place.read_text(errors="replace").splitlines() if place.exists() else []
