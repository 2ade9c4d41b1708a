"""`capsem version`: what is installed here, and which service runs.

capsem version --json
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import ask
from capsem.errors import QemuMissingError, ServiceError, UsageError
from capsem.host.programs import find_qemu, qemu_version
from capsem.wire.versions import WIRE


@click.command("version", epilog="Example: capsem version --json")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(*, as_json: bool) -> None:
    """Print the versions of capsem, capsule and QEMU, and of the service, if one runs.

    `wire` counts the changes of what processes say to each other. A service that is older leaves for one of this
    version when it is asked something; machines run on meanwhile.
    """
    found: dict[str, Any] = {name: metadata.version(name) for name in ("capsem", "capsule")}
    try:
        found["qemu"] = qemu_version(find_qemu())
    except QemuMissingError:
        found["qemu"] = None
    found |= {"wire": WIRE, "service": _service()}
    if as_json:
        terminal.say_json(found)
        return
    for name in ("capsem", "capsule", "qemu"):
        terminal.say(f"{name} {found[name] or 'is not installed'}")
    terminal.say(f"wire {WIRE}")
    if (service := found["service"]) is None:
        terminal.say("service does not run")
    else:
        wire = "a wire that it does not tell" if service["wire"] is None else f"wire {service['wire']}"
        terminal.say(f"service {service['capsem']}, {wire}")


def _service() -> dict[str, Any] | None:
    """Of the service that runs: its versions and its process; None of what it does not tell."""
    try:
        told = ask("GET", "/version", start=False)
    except (ServiceError, UsageError):
        return None
    return {name: told.get(name) for name in ("capsem", "capsule", "wire", "pid")}
