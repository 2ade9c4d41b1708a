"""A machine's disks: the image's root, for reading, and its own, a sparse file with an ext4 file system.

Refuses a host without mkfs.ext4, with the line that installs it.

    blank_disk(directory / "disk", 4096)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from capsem.errors import MachineError
from capsem.host.memory import copy_sparse
from capsem.vm.plan import MachinePlan

# `ioctl_ficlone(2)`: the same blocks under another file until one of the two is written.
_FICLONE = 0x40049409
_WHERE = "/usr/sbin:/sbin:/usr/bin:/bin"


def blank_disk(path: Path, size_mib: int) -> None:
    """Make the file; one that is there is replaced.

    Raises:
        MachineError: there is no mkfs.ext4, or it failed.
    """
    program = shutil.which("mkfs.ext4", path=_WHERE)
    if program is None:
        raise MachineError("a disk needs mkfs.ext4", next_step="sudo apt-get install -y e2fsprogs")
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, size_mib << 20)
    finally:
        os.close(file)
    done = subprocess.run(
        [program, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-L", "capsem", path],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode != 0:
        path.unlink(missing_ok=True)
        raise MachineError(
            f"a disk cannot be made: {done.stderr.strip()}",
            next_step="is the file system of CAPSEM_HOME full?",
        )


def copy_disk(source: Path, target: Path) -> None:
    """A copy of a disk's file that shares its blocks where the file system can, and is as sparse as it is where not.

    Raises:
        OSError: it could not be made; what there is of it is taken away.
    """
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fresh = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        writing = os.open(target, fresh, 0o600)
        try:
            try:
                fcntl.ioctl(writing, _FICLONE, reading)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY}:
                    raise
                copy_sparse(reading, writing)
        except OSError:
            target.unlink()
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def open_disks(stack: contextlib.ExitStack, plan: MachinePlan, own: Path) -> tuple[int, int | None]:
    """Descriptors of the root file system and of the machine's own disk, closed with the stack.

    Raises:
        MachineError: one cannot be opened.
    """
    try:
        root = os.open(plan.image.root, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, root)
        if not plan.disk:
            return root, None
        disk = os.open(own, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        stack.callback(os.close, disk)
    except OSError as error:
        raise MachineError(f"{error.filename}: {error.strerror}", next_step="capsem image verify") from error
    return root, disk
