"""`capsem version`: what is installed here.

capsem version --json
"""

from __future__ import annotations

from importlib import metadata

import click

from capsem.cli import terminal
from capsem.errors import QemuMissingError
from capsem.host.programs import find_qemu, qemu_version


@click.command("version", epilog="Example: capsem version --json")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, as_json: bool) -> None:
    """Print the versions of capsem, capsule and QEMU."""
    found: dict[str, str | None] = {name: metadata.version(name) for name in ("capsem", "capsule")}
    try:
        found["qemu"] = qemu_version(find_qemu())
    except QemuMissingError:
        found["qemu"] = None
    if as_json:
        terminal.say_json(found)
        return
    for name, version in found.items():
        terminal.say(f"{name} {version or 'is not installed'}")
