"""The programs of this host that a machine needs, found or named with the line that installs them.

Refuses to guess: what is not an executable file on `PATH` is missing.

    find_qemu()                      # Path('/usr/bin/qemu-system-x86_64')
    qemu_version(find_qemu())        # '7.2.22'
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

from capsem.errors import QemuMissingError

_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}


def find_qemu(machine: str | None = None) -> Path:
    """QEMU's system emulator for a kind of processor (as `uname -m` names it; this host's own when None).

    Raises:
        QemuMissingError: it is not on `PATH`; the next step is the line that installs it.
    """
    kind = machine or platform.machine()
    name = f"qemu-system-{kind}"
    found = shutil.which(name)
    if found is None:
        package = _PACKAGES.get(kind, "qemu-system")
        raise QemuMissingError(
            f"no {name} on this machine",
            next_step=f"sudo apt-get install -y --no-install-recommends {package}",
        )
    return Path(found)


def qemu_version(program: Path) -> str:
    """The version a QEMU reports of itself, as `7.2.22`.

    Raises:
        QemuMissingError: it does not run, or prints no version.
    """
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QemuMissingError(f"{program} does not run: {error}", next_step="reinstall QEMU") from error
    found = re.search(r"version (\d+(?:\.\d+)+)", done.stdout)
    if done.returncode != 0 or found is None:
        raise QemuMissingError(
            f"{program} --version ended with {done.returncode} and named no version",
            next_step="reinstall QEMU",
        )
    return found[1]
