"""`capsem cp`: a file, or with `-r` a directory, into a machine or out of it; `MACHINE:/path` names a place inside.

Refuses to put a directory where something is. What is never made here (devices, links that lead out) is left out and
told.

    capsem cp notes.txt build:/root/notes.txt
    capsem cp -r build:/root/results .
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click

from capsem.cli import terminal
from capsem.cli.asking import MachineName, ask, socket_of
from capsem.errors import MachineError, NotFoundError, UsageError
from capsem.host.extract import Extraction
from capsem.host.operation import Output, begin, write_file
from capsem.host.packing import Packing
from capsem.host.transfer import fetch, send
from capsem.host.workspace import guards_of
from capsem.wire.archive import Limits
from capsem.wire.monitor import File

_CHUNK = 1 << 18


@click.command("cp", epilog="Example: capsem cp -r docs build:/root/docs")
@click.option("-r", "--recursive", is_flag=True, help="A directory and all in it.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@click.argument("source")
@click.argument("target")
def command(*, source: str, target: str, recursive: bool, as_json: bool) -> None:
    """Copy a file, or with -r a directory. One of SOURCE and TARGET is MACHINE:/path.

    Of a directory, what the policy denies (.env, keys) is left out and named; a file that is named itself is copied.
    """
    inside, outside = _parted(source), _parted(target)
    if (inside is None) == (outside is None):
        raise UsageError("one of the two must be in a machine", next_step="write it as MACHINE:/path")
    if inside is not None:
        machine, path = inside
        if target.endswith("/") and not recursive and not Path(target).is_dir():
            raise UsageError(f"{target}: there is no such directory", next_step=f"make it: mkdir {target}")
        here = Path(target) / Path(path).name if Path(target).is_dir() else Path(target)
        socket = _socket(machine)
        size = {} if recursive else {"size": asyncio.run(_out(socket, path, here))}
        copied: dict[str, Any] = _tree_out(socket, path, here) if recursive else size
        copied["target"] = str(here)
    else:
        assert outside is not None
        machine, path = outside
        there = path + Path(source).resolve().name if path.endswith("/") else path
        if recursive:
            copied = _tree_into(machine, Path(source), there)
        else:
            copied = {"size": asyncio.run(_into(_socket(machine), Path(source), there))}
        copied["target"] = f"{machine}:{there}"
    if as_json:
        terminal.say_json(copied)


def _tree_out(socket: Path, path: str, here: Path) -> dict[str, Any]:
    with terminal.progress() as progress, Extraction(here) as extraction:
        progress.step(f"copying {path}")
        asyncio.run(fetch(socket, path, extraction.feed))
        extraction.finish()
    terminal.left_out(extraction.left_out)
    return {
        "names": extraction.names, "size": extraction.size, "left_out": [list(one) for one in extraction.left_out],
    }  # fmt: skip


def _tree_into(machine: str, source: Path, there: str) -> dict[str, Any]:
    packing = Packing(source, leave=guards_of(source.resolve()).withheld)
    with contextlib.closing(packing), terminal.progress() as progress:
        socket = _socket(machine)
        progress.step(f"copying {len(packing.members) - 1} names, {terminal.megabytes(packing.size)}")
        asyncio.run(
            send(
                socket, there, packing.pieces(), lambda done: progress.at(min(1.0, done / (packing.size + 1)))
            )
        )
    terminal.left_out(packing.left_out)
    return {
        "names": len(packing.members) - 1, "size": packing.size, "left_out": [list(one) for one in packing.left_out],
    }  # fmt: skip


def _parted(text: str) -> tuple[str, str] | None:
    machine, colon, path = text.partition(":")
    if not colon or "/" in machine:
        return None
    if not path.startswith("/"):
        raise UsageError(
            f"{text}: the path in the machine is not absolute", next_step=f"write {machine}:/path"
        )
    return machine, path


def _socket(machine: str) -> Path:
    return socket_of(ask("GET", f"/machines/{MachineName().convert(machine, None, None)}"), machine)


async def _into(socket: Path, source: Path, path: str) -> int:
    if source.is_dir():
        raise UsageError(f"{source} is a directory", next_step="copy it with: capsem cp -r")
    try:
        file = source.open("rb")
    except OSError as error:
        raise NotFoundError(
            f"{source}: {error.strerror}", next_step="name a file that can be read"
        ) from error
    with file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(
                f"{source} is no regular file",
                next_step="copy what it brings, as a file",
            )

        async def pieces() -> AsyncIterator[bytes]:
            while data := await asyncio.to_thread(file.read, _CHUNK):
                yield data

        await write_file(socket, File("write", path, mode=stat.S_IMODE(found.st_mode) & 0o777), pieces())
        return found.st_size


async def _out(socket: Path, path: str, target: Path) -> int:
    """Its size. The content goes to a file that has no name until it is whole, and then takes the target's."""
    operation = await begin(socket, File("read", path))
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        descriptor, named = _fresh(target, fresh)
        try:
            size = 0
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                async for said in operation:
                    if not isinstance(said, Output):
                        continue
                    size += len(said.content)
                    if size > Limits().size:
                        raise MachineError(
                            f"{path} has more than {terminal.megabytes(Limits().size)}, and may have no end",
                            next_step="nothing was kept; look at it with capsem shell",
                        )
                    await asyncio.to_thread(file.write, said.content)
                file.flush()
                if not named:
                    _name(file.fileno(), fresh)
            fresh.replace(target)
            return size
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    finally:
        await operation.close()


def _name(descriptor: int, fresh: Path) -> None:
    """Give a file without a name one; over a directory's descriptor, else Python's link does not follow /proc."""
    directory = os.open(fresh.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(f"/proc/self/fd/{descriptor}", fresh.name, dst_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def _fresh(target: Path, fresh: Path) -> tuple[int, bool]:
    """A new file beside `target`, and whether it has a name: one without leaves nothing when we are killed."""
    with contextlib.suppress(OSError):
        return os.open(target.parent, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666), False
    try:
        return os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
        ), True
    except OSError as error:
        raise UsageError(
            f"{target}: {error.strerror}", next_step="name a place that can be written"
        ) from error
