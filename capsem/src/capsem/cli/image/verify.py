"""`capsem image verify`: read every byte again.

capsem image verify default
"""

from __future__ import annotations

import sys

import click

from capsem.cli import terminal
from capsem.host import images


@click.command("verify", epilog="Example: capsem image verify minimal")
@click.argument("image")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, image: str, as_json: bool) -> None:
    """Compare every byte of an image with its manifest; exit with 1 when something differs."""
    found = images.find(image)
    differences = images.compare(found)
    if as_json:
        rows = [{"path": one.path, "what": one.what} for one in differences]
        terminal.say_json({"digest": found.digest, "agrees": not differences, "differences": rows})
    elif differences:
        for one in differences:
            terminal.say(f"{one.path}: {one.what}")
    else:
        terminal.say(
            f"{found.digest[:12]} agrees: {len(found.manifest.parts)} files, {terminal.megabytes(found.size)}"
        )
    if differences:
        sys.exit(1)
