"""`capsem image rm`: remove an image.

capsem image rm small
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.host import images


@click.command("rm", epilog="Example: capsem image rm minimal")
@click.argument("image")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, image: str, as_json: bool) -> None:
    """Remove an image and its names. One that a machine was made from stays, and the machines are named."""
    gone = images.remove(image)
    if as_json:
        terminal.say_json({"removed": gone.digest, "bytes": gone.size})
    else:
        terminal.say(f"removed {gone.digest[:12]}, {terminal.megabytes(gone.size)}")
