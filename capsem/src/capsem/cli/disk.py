"""`capsem disk`: what CAPSEM_HOME takes on the disk, and what of it is whose.

capsem disk
"""

from __future__ import annotations

import click

from capsem.cli import terminal
from capsem.host import paths
from capsem.host.settings import load
from capsem.host.usage import measured, taken

_LITTLE = 50_000
"""Bytes below which a part is shown as 0.0 MB, and for people stands with all the others that are."""


@click.command("disk", epilog="Example: capsem disk --json")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, as_json: bool) -> None:
    """Show what images, templates, machines and logs take: blocks that are written, not how long files say they are.

    The cache of what images are built from is beside it, and may be deleted at any time.
    """
    used, limit, cache = measured(), load().of("limits.home"), taken([paths.cache()])[0]
    if as_json:
        terminal.say_json({
            "home": str(paths.home()), "bytes": used.total, "limit": limit.value, "limit_from": limit.place,
            "parts": [
                {"kind": part.kind, "name": part.name, "bytes": part.size, "apparent_bytes": part.apparent}
                for part in used.parts
            ],
            "cache": str(paths.cache()), "cache_bytes": cache,
        })  # fmt: skip
        return
    rows = [
        (part.kind, part.name, terminal.megabytes(part.size)) for part in used.parts if part.size >= _LITTLE
    ]
    if little := [part.size for part in used.parts if part.size < _LITTLE]:
        rows.append((f"{len(little)} more", "", terminal.megabytes(sum(little))))
    terminal.say_table(("WHAT", "NAME", "TAKES"), rows)
    terminal.say(
        f"{terminal.megabytes(used.total)} in {paths.home()}, limits.home is {limit.value} ({limit.place})"
    )
    terminal.say(f"{terminal.megabytes(cache)} in the cache {paths.cache()}")
