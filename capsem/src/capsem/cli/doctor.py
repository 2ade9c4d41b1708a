"""`capsem doctor`: what this host runs machines with, and what is missing; or what holds inside of a machine.

capsem doctor
capsem doctor build
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, socket_of
from capsem.cli.attach import attached
from capsem.cli.report import Course, reported
from capsem.errors import CapsemError, NotFoundError, UsageError
from capsem.host import paths, places
from capsem.host.facts import host_facts
from capsem.host.images import names, open_image
from capsem.host.programs import find_qemu
from capsem.host.service import call
from capsem.host.settings import load
from capsem.host.usage import measured
from capsem.vm.image import REBUILD
from capsem.vm.settings import Settings
from capsem.wire.monitor import Exec

AGENT = "/capsem/capsem-agent"
"""The guest's program, in every image, read-only."""


@click.command("doctor", epilog="Example: capsem doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@click.argument("machine", required=False, type=MachineName())
def command(*, as_json: bool, machine: str | None) -> int:
    """Try what a machine needs; exit 1 when something is missing.

    With a machine that runs, its own agent looks at what has to hold inside: kernel, isolation, files, environment,
    network, limits. That is the guest's word, and ends with 1 when something does not hold.
    """
    if machine is not None:
        return _inside(machine, as_json=as_json)
    checks = [_qemu(), _disk(), *_by_settings()]
    if as_json:
        terminal.say_json([{"check": name, "ok": ok, "what": what} for name, ok, what in checks])
    else:
        for name, ok, what in checks:
            terminal.say(f"{'ok' if ok else 'missing':<8} {name:<12} {what}")
    return 0 if all(ok for _, ok, _ in checks) else 1


def _inside(machine: str, *, as_json: bool) -> int:
    asked = Exec(argv=(AGENT, "doctor", *(("--json",) if as_json else ())))

    async def work(course: Course) -> int:
        found = course.machine = await call("GET", f"/machines/{machine}")
        return await attached(socket_of(found, machine), asked, course, as_json=False)

    return reported(asked.argv, work, Course(), as_json=False)


def _qemu() -> tuple[str, bool, str]:
    try:
        facts = asyncio.run(host_facts(find_qemu(), kept=_kept()))
    except CapsemError as error:
        return "qemu", False, str(error)
    return (
        "qemu",
        True,
        f"{facts.qemu}, accelerator {facts.accelerator}{f' ({facts.why})' if facts.why else ''}",
    )


def _kept() -> Path | None:
    """What the service found out counts, where there was one."""
    with contextlib.suppress(UsageError):
        return places.run() / "host.json" if places.run().is_dir() else None
    return None


def _by_settings() -> list[tuple[str, bool, str]]:
    """What depends on them; nothing of it is known where they cannot be read."""
    about = "home"
    try:
        paths.home()
        about = "settings"
        settings = load()
    except CapsemError as error:
        return [(about, False, str(error))]
    return [_image(settings), _home(settings)]


def _image(settings: Settings) -> tuple[str, bool, str]:
    """The one of machines that name none."""
    held = settings.of("machine.image")
    said = f"machine.image is {held.value} ({held.place})"
    try:
        image = open_image(str(held.value))
    except NotFoundError as error:
        others = ", ".join(sorted(names()))
        if others and not held.locked:
            use = f"capsem config set machine.image, or --image, with one of these: {others}"
            return "image", False, f"{said}: {error.message}; {use}; or {REBUILD}"
        return "image", False, f"{said}: {error}"
    except CapsemError as error:
        return "image", False, f"{said}: {error}"
    return "image", True, f"{held.value}, {image.digest[:12]}"


def _home(settings: Settings) -> tuple[str, bool, str]:
    used = measured().total
    limit, held = settings.mebibytes("limits.home"), settings.of("limits.home")
    what = f"{terminal.megabytes(used)} in {paths.home()}, limits.home is {held.value} ({held.place})"
    return "home", limit is None or used <= limit << 20, what


def _disk() -> tuple[str, bool, str]:
    found = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    return "disk", found is not None, found or "no mkfs.ext4; sudo apt-get install -y e2fsprogs"
