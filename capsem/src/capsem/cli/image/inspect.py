"""`capsem image inspect`: one image's manifest.

capsem image inspect default --json
"""

from __future__ import annotations

import click
import msgspec

from capsem.cli import terminal
from capsem.cli.image.shown import summary
from capsem.host import images


@click.command("inspect", epilog="Example: capsem image inspect minimal")
@click.argument("image")
@click.option("--packages", is_flag=True, help="List what is installed.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON: the whole manifest.")
def command(*, image: str, packages: bool, as_json: bool) -> None:
    """Show what an image is made of. IMAGE is a name or the beginning of a digest."""
    found = images.find(image)
    manifest = found.manifest
    if as_json:
        terminal.say_json(msgspec.to_builtins(manifest))
        return
    if packages:
        terminal.say_table(
            ("KIND", "NAME", "VERSION"), [(one.kind, one.name, one.version) for one in manifest.packages]
        )
        return
    called = [name for name, digest in images.names().items() if digest == found.digest]
    facts = summary(found, called)
    used = images.users(found.digest)
    rows = [
        ("digest", found.digest),
        ("names", ", ".join(facts["names"]) or "-"),
        ("recipe", f"{manifest.name} {manifest.recipe_sha256[:12]}"),
        ("suite", manifest.suite),
        (
            "kernel",
            f"{manifest.kernel.flavour} {manifest.kernel.version}, {terminal.megabytes(manifest.kernel.size)}",
        ),
        ("initrd", terminal.megabytes(manifest.initrd.size)),
        ("root", f"{manifest.root.format}, {terminal.megabytes(manifest.root.size)}"),
        ("agent", manifest.agent_sha256[:12]),
        ("packages", str(len(manifest.packages))),
        ("base", "-" if manifest.base is None else manifest.base[:12]),
        (
            "disk",
            "-"
            if manifest.disk is None
            else f"{manifest.disk.size_mib} MiB, {terminal.megabytes(found.size)} written",
        ),
        ("forks", ", ".join(images.forks_of(found.digest)) or "-"),
        ("machines", ", ".join(used) or "-"),
        ("directory", str(found.directory)),
    ]
    for key, value in rows:
        terminal.say(f"{key + ':':<11}{value}")
