"""The client's side of the service: one request, one answer, over its Unix socket; the service is started when needed.

Refuses a service of another user, and one that would misunderstand it. Errors come back as the exceptions they were.

    machine = await call("POST", "/machines", {"image": "default"})
    machine["id"]                            # 'm-1a2b3c4d'
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from capsem.errors import ServiceError
from capsem.host import places
from capsem.host.operation import raised
from capsem.host.peer import is_ours, peer_process
from capsem.host.question import said
from capsem.host.replacing import ask_to_leave, refused, until_left
from capsem.wire.monitor import Failed
from capsem.wire.versions import OURS, Fit, Version, judge, told

START_SECONDS = 30.0
_HEAD_LIMIT, _BODY_LIMIT = 16384, 16 << 20
_OTHER_VERSION, _NOT_UNDERSTOOD = 426, {404, 405, 422}


async def call(
    method: str, path: str, body: object = None, *, start: bool = True, sent: socket.socket | None = None
) -> Any:
    """Ask the service; one of an older version leaves for one of ours first, and machines run on meanwhile.

    Args:
        method: of HTTP.
        path: of the resource.
        body: becomes JSON.
        start: whether to start the service when it does not run, or leave one of another version alone.
        sent: where this question was sent already (`capsem.host.question`).

    Raises:
        ServiceError: it does not run and was not to be started, does not start, or does not answer.
        VersionError: it is newer and speaks otherwise, or is older and does not leave.
        CapsemError: what it says went wrong.
    """
    answer = await _asked(method, path, body, start=start, sent=sent)
    if start and (
        answer.code == _OTHER_VERSION or (answer.code in _NOT_UNDERSTOOD and answer.version is None)
    ):
        # Nothing was done: it looks at versions, or at the form of what is asked, before anything else.
        if answer.version is not None and judge(OURS, answer.version) is Fit.REFUSED:
            raise refused(answer.pid, answer.version)
        await until_left(answer.pid, answer.version)
        answer = await _asked(method, path, body, start=start)
    elif start and answer.version is None:
        # It is from before services told theirs, and understood: this one thing is done.
        ask_to_leave(answer.pid)
    found = msgspec.json.decode(answer.content) if answer.content else None
    if answer.code >= 400:
        fault = found.get("error") if isinstance(found, dict) else None
        if isinstance(fault, dict):
            raise raised(msgspec.convert(fault, Failed))
        raise ServiceError(f"the service answered {answer.code}", next_step=f"see {_log()}")
    return found


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back.

    Attributes:
        code: of HTTP.
        content: its body.
        version: what the service says it is; None: it is from before it told.
        pid: the service's process.
    """

    code: int
    content: bytes
    version: Version | None
    pid: int


async def _asked(
    method: str, path: str, body: object, *, start: bool, sent: socket.socket | None = None
) -> _Answer:
    try:
        if sent is None:
            reader, writer = await _connected(start=start)
        else:
            reader, writer = await asyncio.open_unix_connection(sock=sent, limit=_HEAD_LIMIT)
        try:
            if sent is None:
                writer.write(said(method, path, b"" if body is None else msgspec.json.encode(body)))
                await writer.drain()
            code, fields, answer = await _answer(reader)
            return _Answer(code, answer, told(fields), peer_process(writer.get_extra_info("socket")))
        finally:
            writer.close()
    except PermissionError as error:
        raise ServiceError(
            f"{places.service_socket()}: {error.strerror}",
            next_step="set CAPSEM_HOME to a directory of yours",
        ) from error
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise ServiceError(f"the service broke off: {error}", next_step=f"see {_log()}") from error


def _log() -> str:
    return str(places.run() / "service.log")


async def _connected(*, start: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    places.short_enough()
    path = places.service_socket()
    try:
        return await _open(path)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        if not start:
            raise ServiceError(
                "the service does not run", next_step="any verb that needs it starts it"
            ) from None
    await asyncio.to_thread(_launch)
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        try:
            return await _open(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise ServiceError(
                    f"the service did not start within {START_SECONDS:g} s", next_step=f"see {_log()}"
                ) from error
        await asyncio.sleep(0.05)
        # The one that ran may have been about to end.
        await asyncio.to_thread(_launch)


async def _open(path: os.PathLike[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path, limit=_HEAD_LIMIT)
    if not is_ours(writer.get_extra_info("socket")):
        writer.close()
        raise ServiceError(
            f"{path} belongs to another user's process", next_step="set CAPSEM_HOME to a directory of yours"
        )
    return reader, writer


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    code = int(head[0].split(" ")[1])
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    size = int(fields.get("content-length", "0"))
    if size > _BODY_LIMIT:
        raise ValueError(f"an answer of {size} bytes")
    return code, fields, await reader.readexactly(size)


def _launch() -> None:
    """Start the service and wait until it listens, or has ended because another one does."""
    places.prepare()
    ready, said = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, ready)
        log = os.open(_log(), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "capsem.processes.service", "--ready", str(said)],
                pass_fds=(said,), start_new_session=True, cwd="/",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        finally:
            os.close(said)
            os.close(log)
        if os.read(ready, 16):
            child.returncode = 0  # It goes on without us; nobody waits for it.
            return
    code = child.wait()
    if code != 0:
        raise ServiceError(f"the service ended with {code} at its start", next_step=f"see {_log()}")
