"""From a tar archive of installed packages to a squashfs that is the same every time.

The archive is written again in the order of names, with one time, without what `capsem.vm.tree` leaves out, and
goes through a pipe to `mksquashfs`; no file of the guest is ever unpacked here, so no right of root is needed.
Refuses names that leave the tree.

    inside = assemble(tar, recipe, room / "base.squashfs", Silent())
    inside.packages
"""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from capsem.errors import ImageError
from capsem.host import commands
from capsem.host.progress import Progress
from capsem.vm import packages, tree
from capsem.vm.image import Package
from capsem.vm.recipe import Recipe

_SQUASHFS = [
    "-comp", "zstd", "-Xcompression-level", "9", "-b", "131072", "-root-mode", "0755",
    "-root-uid", "0", "-root-gid", "0",
    "-no-exports", "-noappend", "-no-progress", "-quiet",
]  # fmt: skip
_MODES = {"etc/passwd": 0o644, "etc/group": 0o644, "etc/shadow": 0o600}


@dataclass(frozen=True, slots=True)
class Inside:
    """What was found in the tree."""

    packages: tuple[Package, ...]


def assemble(archive: Path, recipe: Recipe, target: Path, progress: Progress) -> Inside:
    """Write the tree of an archive as squashfs.

    Raises:
        ImageError: the archive is not of the expected form, or mksquashfs fails.
    """
    progress.step("root: sorting files")
    with tarfile.open(archive, "r:") as source:
        members = _members(source)
        inside = Inside(_installed(source, members))
        added = tree.additions(recipe)
        passwd, group = (_text(source, members, name) for name in ("etc/passwd", "etc/group"))
        for name, data in tree.accounts(recipe, passwd, group).items():
            added[name] = tree.Added(_MODES[name], data)
        progress.step("root: compressing")

        def feed(pipe: IO[bytes]) -> None:
            with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as out:
                _write(source, members, added, out, epoch=recipe.epoch, progress=progress)

        commands.run(
            ["mksquashfs", "-", target, "-tar", *_SQUASHFS],
            what="compressing the root file system",
            environment={"SOURCE_DATE_EPOCH": str(recipe.epoch)},
            feed=feed,
        )
    return inside


def append_agent(base: Path, agent: Path, target: Path, epoch: int, room: Path) -> None:
    """Copy a base and put the agent into it as `/capsem/capsem-agent`, mode 0555, root's.

    What is there is not compressed again: a new agent costs a copy of the base.
    """
    shutil.copyfile(base, target)
    folder = room / "append/capsem"
    folder.mkdir(parents=True)
    shutil.copyfile(agent, folder / "capsem-agent")
    (folder / "capsem-agent").chmod(0o555)
    folder.chmod(0o555)
    commands.run(
        ["mksquashfs", folder.parent, target, "-all-root", "-no-progress", "-quiet", "-no-exports"],
        what="adding the agent to the root file system",
        environment={"SOURCE_DATE_EPOCH": str(epoch)},
    )
    folder.chmod(0o755)


def _members(source: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Everything that stays, by name without a leading `./`."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in source:
        name = member.name.removeprefix("./").rstrip("/")
        if name in {"", "."}:
            continue
        if name.startswith("/") or ".." in name.split("/"):
            raise ImageError(
                f"the packages' archive has the name {name!r}",
                next_step="build again; if it stays, leave the package out",
            )
        if not (member.isdir() or member.isreg() or member.issym() or member.islnk()) or tree.left_out(name):
            continue
        found[name] = member
    return found


def _write(
    source: tarfile.TarFile,
    members: dict[str, tarfile.TarInfo],
    added: dict[str, tree.Added],
    out: tarfile.TarFile,
    *,
    epoch: int,
    progress: Progress,
) -> None:
    # The name under which a file with several names comes first is the one that carries the content.
    first: dict[str, str] = {}
    names = sorted({*members, *added}, key=lambda name: name.split("/"))
    for count, name in enumerate(names):
        progress.at(count / len(names))
        if name in added and not (added[name].keep and name in members and members[name].isdir()):
            info, data = _new(name, added[name])
            content: IO[bytes] | None = None if data is None else io.BytesIO(data)
        else:
            member = members[name]
            origin = _origin(member, members)
            info = tarfile.TarInfo(name)
            info.type, info.mode = origin.type, stat.S_IMODE(origin.mode) & tree.PERMISSIONS
            info.uid, info.gid, info.linkname = origin.uid, origin.gid, origin.linkname
            content = None
            key = origin.name
            if origin.isreg():
                if key in first:
                    info.type, info.linkname = tarfile.LNKTYPE, first[key]
                else:
                    first[key] = name
                    info.size = origin.size
                    content = source.extractfile(origin)
        info.mtime = epoch
        out.addfile(info, content)


def _origin(member: tarfile.TarInfo, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    """The entry with the content behind a hard link."""
    seen = 0
    while member.islnk():
        target = member.linkname.removeprefix("./").lstrip("/")
        seen += 1
        if target not in members or seen > 40:
            raise ImageError(
                f"the packages' archive links {member.name} to {member.linkname}, which is not in it",
                next_step="build again",
            )
        member = members[target]
    return member


def _new(name: str, added: tree.Added) -> tuple[tarfile.TarInfo, bytes | None]:
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = added.mode, added.uid, added.uid
    if added.link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, added.link
        return info, None
    if added.data is None:
        info.type = tarfile.DIRTYPE
        return info, None
    info.size = len(added.data)
    return info, added.data


def _text(source: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> str:
    member = members.get(name)
    stream = source.extractfile(member) if member is not None and member.isreg() else None
    if stream is None:
        raise ImageError(f"the packages brought no /{name}", next_step='use base = "minbase" or "essential"')
    return stream.read().decode("utf-8", "replace")


def _installed(source: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> tuple[Package, ...]:
    found = list(packages.debian(_text(source, members, "var/lib/dpkg/status")))
    lock = "usr/local/lib/node_modules/.package-lock.json"
    if lock in members:
        found += packages.npm(_text(source, members, lock))
    for name in sorted(members):
        pieces = name.split("/")
        if (
            name.startswith("usr/local/lib/python3")
            and pieces[-1] == "METADATA"
            and pieces[-2].endswith(".dist-info")
        ):
            found.append(packages.python(_text(source, members, name)))
    return tuple(found)
