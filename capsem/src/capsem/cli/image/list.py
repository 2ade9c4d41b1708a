"""`capsem image list`: the images of this user.

capsem image list --json
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.cli.image.shown import summary
from capsem.host import images


@click.command("list", epilog="Example: capsem image list --json")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, as_json: bool) -> None:
    """List the images, the newest first."""
    known = images.names()
    found = [
        (image, [name for name, digest in known.items() if digest == image.digest])
        for image in images.everything()
    ]
    if as_json:
        terminal.say_json([summary(image, called) for image, called in found])
        return
    if not found:
        terminal.say("no images; build one with: capsem image build")
        return
    rows = [
        (
            ", ".join(sorted(called)) or "-",
            image.digest[:12],
            f"{image.manifest.kernel.flavour} {image.manifest.kernel.version}",
            str(len(image.manifest.packages)),
            terminal.megabytes(image.size),
        )
        for image, called in found
    ]
    terminal.say_table(("NAME", "DIGEST", "KERNEL", "PACKAGES", "SIZE"), rows)
