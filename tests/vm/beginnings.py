"""What every test of machines begins with, an image and its template, made once for all of them and copied into a home.

    first = once(directory, Home(directory / "home"), make)      # whoever comes first makes it, the others wait
    copied(first, another)

What is told apart by being made (that a template boots, and what happens meanwhile) begins without: `anew`.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

KEPT = ("images", "templates")


def once(directory: Path, make: Callable[[Path], None]) -> Path:
    """The home that `make` makes in a directory, by whichever process comes first; the others wait for it.

    Raises:
        Exception: whatever `make` raises; the next one begins anew.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    home, complete = directory / "home", directory / "complete"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(mode=0o700)
            make(home)
            complete.touch()
    return home


def copied(first: Path, home: Path) -> None:
    """The image and the template of one home in another; memory and disks keep their holes."""
    for name in KEPT:
        subprocess.run(["cp", "-a", "--reflink=auto", first / name, home / name], check=True)
    for plan in home.glob("templates/*/plan.json"):
        # It names the files of the image where they are.
        plan.write_text(plan.read_text().replace(f"{first}/", f"{home}/"))


def anew(home: Path) -> None:
    """Without the template: the next machine has it booted."""
    shutil.rmtree(home / "templates")
