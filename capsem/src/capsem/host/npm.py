"""A recipe's npm packages as one tar archive of `/usr/local`, the same bytes for the same lock.

npm of this host fetches them and compares each with the lock; none of their scripts runs, neither here nor in the
image. Nothing of the user's but npm's settings is used: its cache is in the room and goes with it. Refuses links among
the files, and a package that does not lie where the lock has it.

    archive = install(recipe, room, Silent())
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from capsem.errors import ImageError
from capsem.host import commands
from capsem.host.progress import Progress
from capsem.vm import npm_lock
from capsem.vm.npm_lock import NpmLock
from capsem.vm.recipe import Recipe

_MODULES = "usr/local/lib/node_modules"
_LISTING = f"{_MODULES}/.package-lock.json"
_LEFT_OUT = {".bin", ".package-lock.json"}
_LARGEST = 4 << 30  # bytes of all files


def install(recipe: Recipe, room: Path, progress: Progress) -> Path:
    """Fetch and pack them.

    Args:
        recipe: with `npm` and its lock.
        room: a directory for the archive, and for npm meanwhile.
        progress: is told of it.

    Raises:
        ImageError: npm is missing, a package cannot be fetched, or is not the one of the lock.
    """
    progress.step("root: fetching npm packages")
    lock = npm_lock.read(recipe.npm_lock, recipe.npm, "npm_lock")
    place = room / "npm"
    place.mkdir()
    (place / "package.json").write_text(npm_lock.manifest(recipe.npm))
    (place / "package-lock.json").write_text(recipe.npm_lock)
    commands.run(
        [
            "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier",
            "--os=linux", "--cpu=x64", "--libc=glibc", f"--cache={room / 'npm-cache'}",
        ],
        what="fetching the recipe's npm packages",
        cwd=place,
    )  # fmt: skip
    progress.step("root: packing npm packages")
    target = room / "npm.tar"
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        _pack(place / "node_modules", lock, archive, recipe.epoch)
    return target


def _pack(modules: Path, lock: NpmLock, archive: tarfile.TarFile, epoch: int) -> None:
    total = 0
    for directory in ("usr", "usr/local", "usr/local/bin", "usr/local/lib", _MODULES):
        archive.addfile(_entry(directory, epoch, tarfile.DIRTYPE, 0o755))
    for path in sorted(modules.rglob("*")):
        parts = path.relative_to(modules).parts
        if _LEFT_OUT.intersection(parts):
            continue
        name = "/".join((_MODULES, *parts))
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ImageError(
                f"npm made {name}, which is no file", next_step="leave that package out of the recipe"
            )
        if path.is_dir():
            archive.addfile(_entry(name, epoch, tarfile.DIRTYPE, 0o755))
            continue
        found = path.stat()
        info = _entry(name, epoch, tarfile.REGTYPE, 0o755 if found.st_mode & 0o111 else 0o644)
        info.size = found.st_size
        total += info.size
        if total > _LARGEST:
            raise ImageError(
                f"the recipe's npm packages have more than {_LARGEST >> 30} GiB",
                next_step="leave some out of the recipe",
            )
        with path.open("rb") as content:
            archive.addfile(info, content)
    here = frozenset(place for place in lock.packages if (modules.parent / place / "package.json").is_file())
    listing = lock.installed(here).encode()
    info = _entry(_LISTING, epoch, tarfile.REGTYPE, 0o644)
    info.size = len(listing)
    archive.addfile(info, io.BytesIO(listing))
    for program, file in sorted(lock.links.items()):
        if not (modules / file).is_file():
            raise ImageError(f"npm brought no {file}", next_step="write the recipe's lock again")
        info = _entry(f"usr/local/bin/{program}", epoch, tarfile.SYMTYPE, 0o777)
        info.linkname = os.path.relpath(f"{_MODULES}/{file}", "usr/local/bin")
        archive.addfile(info)


def _entry(name: str, epoch: int, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, epoch
    return info
