"""Directories in and out of the machine, as archives that the guest's own `tar` writes and reads.

The archive's bytes are passed on unread: who takes them treats them as hostile (`capsem.wire.archive`). Refuses an
archive that `tar` did not take or give whole, with its words. Decided and recorded by the caller.

    value = await pack(channel, link, asked, user)
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

from capsem.errors import CapsemError, MachineError, NotFoundError, WireError
from capsem.host.channel import PATH, Channel
from capsem.host.flow import Incoming, StreamResetError
from capsem.host.jobs import GuestError, Job
from capsem.host.link import Link
from capsem.wire.frame import DATA_LIMIT, Credit, Data, End
from capsem.wire.frame import encode as encode_frame
from capsem.wire.guest import Exited
from capsem.wire.monitor import INPUT, OUTPUT, File

_ENV = {"PATH": PATH, "LC_ALL": "C.UTF-8"}
_WORDS_LIMIT = 4096
# 1: a file changed while it was read; it is in the archive as far as its header says.
_TAKEN = {0, 1}


async def pack(channel: Channel, link: Link, asked: File, user: int) -> dict[str, Any]:
    """Send a directory to the client.

    Raises:
        CapsemError: there is none, or it could not be read.
    """
    found = await channel.file("stat", asked.path, uid=user, gid=user)
    if found.get("kind") != "directory":
        raise NotFoundError(f"{asked.path} is no directory", next_step="name a directory of the machine")
    job = await _tar(
        channel, user, "--create", "--format=gnu", "--numeric-owner", "--hard-dereference", "--one-file-system",
        "--blocking-factor=128", "--warning=no-file-ignored", "--file=-", f"--directory={asked.path}", ".",
    )  # fmt: skip
    words = asyncio.create_task(_words(job.stderr))
    try:
        size = 0
        with contextlib.suppress(StreamResetError):
            async for untrusted in job.stdout:
                for place in range(0, len(untrusted), DATA_LIMIT):
                    await link.send(encode_frame(Data(OUTPUT, untrusted[place : place + DATA_LIMIT])))
                size += len(untrusted)
                if link.lost:
                    raise MachineError("the client hung up", next_step="repeat it")
        ended = await job.wait()
        _judged(ended, await words, "pack", asked.path)
        return {"size": size}
    finally:
        words.cancel()
        _over(job)


async def unpack(channel: Channel, link: Link, asked: File, user: int) -> dict[str, Any]:
    """Put the client's archive into a directory, which is made, and emptied first where that was asked for.

    Raises:
        CapsemError: the directory cannot be made or emptied, or not all of the archive was taken.
    """
    await channel.file("mkdir", asked.path, uid=user, gid=user, mode=asked.mode, recursive=True)
    if asked.recursive:
        emptied = await channel.exec(
            ["find", asked.path, "-mindepth", "1", "-delete"], env=_ENV, uid=user, gid=user
        )
        why = asyncio.create_task(_words(emptied.stderr))
        _judged(await emptied.wait(), await why, "empty", asked.path)
    job = await _tar(
        channel, user, "--extract", "--same-owner" if user == 0 else "--no-same-owner", "--numeric-owner",
        "--preserve-permissions", "--delay-directory-restore",
        "--blocking-factor=128", "--file=-", f"--directory={asked.path}", stdin=True,
    )  # fmt: skip
    words = asyncio.create_task(_words(job.stderr))
    ended = asyncio.create_task(job.wait())
    feeding = asyncio.create_task(_feed(link, job))
    try:
        # tar may end before its input does: then its word counts, and nobody waits for room in its input.
        await asyncio.wait({ended, feeding}, return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            feeding.result()
        _judged(await ended, await words, "unpack", asked.path)
        return {}
    finally:
        for task in (words, ended, feeding):
            task.cancel()
        await asyncio.gather(words, ended, feeding, return_exceptions=True)
        _over(job)


async def _feed(link: Link, job: Job) -> None:
    while True:
        match await link.receive():
            case Data(stream, content) if stream == INPUT:
                try:
                    await job.stdin.write(content)
                except StreamResetError:
                    return
                await link.send(encode_frame(Credit(INPUT, len(content))))
            case End(stream) if stream == INPUT:
                job.stdin.end()
                return
            case _:
                raise WireError("the archive broke off", next_step="copy it again")


def _over(job: Job) -> None:
    # Whatever it still does, nobody waits for it.
    with contextlib.suppress(CapsemError):
        job.signal(signal.SIGKILL)
        job.abandon()


async def _tar(channel: Channel, user: int, *words: str, stdin: bool = False) -> Job:
    try:
        return await channel.exec(["tar", *words], env=_ENV, uid=user, gid=user, stdin=stdin)
    except GuestError as error:
        if error.errno == "ENOENT":
            raise MachineError(
                "the machine has no tar",
                next_step="add the package tar to the image's recipe, and build it again",
            ) from error
        raise


async def _words(stream: Incoming | None) -> str:
    """The end of what a program complains of, as the guest says it; what is before that is read and dropped."""
    untrusted = b""
    if stream is not None:
        with contextlib.suppress(StreamResetError):
            async for chunk in stream:
                untrusted = (untrusted + chunk)[-_WORDS_LIMIT:]
    return untrusted.decode("utf-8", "replace").strip()


def _judged(ended: Exited, words: str, act: str, path: str) -> None:
    if ended.code not in _TAKEN or (act != "pack" and ended.code != 0):
        full = "No space left" in words
        why = (
            words.splitlines()[-1]
            if words
            else f"tar ended with {ended.code if ended.code is not None else ended.signal}"
        )
        raise MachineError(
            f"the machine could not {act} {path}: {why}",
            next_step="give the machine more memory, or a disk: --disk SIZE" if full else "see capsem shell",
        )
