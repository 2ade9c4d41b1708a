"""One call, in a child of the worker: wait for it, run it, answer, leave nothing behind.

The child was forked before the call arrived, and has already touched the memory it needs, so that the call
itself waits for neither. Runs inside the sandbox, on behalf of whoever wrote the function.

    serve(connection)      # never returns: the process exits when the answer has been sent
"""

from __future__ import annotations

import atexit
import gc
import os
import socket
import sys
from typing import Any, Final, NoReturn

from capsule.sdk import inside, program
from capsule.sdk.locate import find
from capsule.sdk.raised import describe
from capsule.sdk.values import UnfitValueError, decode, encode
from capsule.sdk.wire import WireError, pack, receive

MAX_CALL: Final = 64 << 20
"""Bytes of a call; the supervisor's own limit is far lower."""
_WARM: Final = [["warm", 1, 1.5, None, True, b"\x00"], {"key": ("value",)}]


def serve(connection: socket.socket) -> NoReturn:
    """Announce, wait for one call, answer it, exit."""
    decode(encode(_WARM))
    gc.enable()
    try:
        connection.sendall(pack({"kind": "ready", "pid": os.getpid()}))
        envelope, body = receive(connection, MAX_CALL)
    except (WireError, OSError):
        os._exit(0)
    inside.calling = True
    try:
        outcome, answer = _outcome(envelope, body)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        connection.sendall(pack({"kind": "answer", "outcome": outcome}, answer))
        connection.close()
        atexit._run_exitfuncs()
    finally:
        os._exit(0)


def _outcome(envelope: dict[str, Any], body: bytes) -> tuple[str, bytes]:
    """What the call came to, as the envelope's outcome and the body of the answer."""
    limit = int(envelope["limit"])
    try:
        if envelope["kind"] == "run":
            request: Any = decode(body, "run")
            value: object = program.run(**request, limit=limit)
        else:
            value = _call(envelope, body)
    except BaseException as error:  # noqa: BLE001 - whatever a tool raises is its answer, SystemExit included
        error.__traceback__ = _beyond_this_file(error)
        return "raised", describe(error)
    try:
        answer = encode(value, "result")
    except UnfitValueError as error:
        return "unfit", encode(str(error))
    if len(answer) > limit and envelope["kind"] != "run":
        return "unfit", encode(f"result: {len(answer)} bytes, where at most {limit} may cross")
    return "returned", answer


def _call(envelope: dict[str, Any], body: bytes) -> object:
    found = find(sys.modules[envelope["module"]], envelope["qualname"])
    arguments: Any = decode(body, "arguments")
    value = found(*arguments[0], **arguments[1])
    if envelope["awaits"]:
        import asyncio

        value = asyncio.run(value)
    return value


def _beyond_this_file(error: BaseException) -> Any:
    """The traceback from the first frame that is the tool's own."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
    return frame
