"""One call, in a child of the worker: wait for it, run it, answer, leave nothing behind.

The child was forked before the call arrived, and has already touched the memory it needs, so that the call
itself waits for neither. Runs inside the sandbox, on behalf of whoever wrote the function.

    serve(connection)      # never returns: the process exits when the answer has been sent
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Any, Final, NoReturn

from capsule.sdk import inside, program
from capsule.sdk.locate import find
from capsule.sdk.raised import describe
from capsule.sdk.values import UnfitValueError, decode, encode, exceeds
from capsule.sdk.wire import HEADER, WireError, length, pack, split

MAX_CALL: Final = 64 << 20
"""Bytes of a call; the supervisor's own limit is far lower."""
_REHEARSAL: Final = pack(
    {"kind": "call", "module": __name__, "qualname": "_nothing", "awaits": False, "limit": 1 << 20},
    b'[[1,"two"],{}]',
)[HEADER:]


def rehearse() -> None:
    """Go the way of a call with nothing in it.

    In the worker, before it forks: what the interpreter works out the first time is worked out once for all. In a
    child, before its call: the pages that a call writes are its own by then, and the call does not wait for them.
    """
    outcome, answer = _outcome(*split(_REHEARSAL))
    sys.stdout.flush()
    sys.stderr.flush()
    pack({"kind": "answer", "outcome": outcome}, answer)


def _nothing(*arguments: object) -> object:
    return list(arguments)


def serve(connection: int) -> NoReturn:
    """Announce on the descriptor `connection`, wait for one call, answer it, exit."""
    try:
        gc.enable()
        rehearse()
        os.write(connection, pack({"kind": "ready", "pid": os.getpid()}))
        envelope, body = _receive(connection)
    except (WireError, OSError):
        os._exit(0)
    inside.calling = True
    try:
        outcome, answer = _outcome(envelope, body)
        sys.stdout.flush()
        sys.stderr.flush()
        frame = pack({"kind": "answer", "outcome": outcome}, answer)
        while frame:
            frame = frame[os.write(connection, frame) :]
        os.close(connection)
        atexit._run_exitfuncs()
    finally:
        os._exit(0)


def _receive(connection: int) -> tuple[dict[str, Any], bytes]:
    """The one frame that comes; a descriptor is enough for that, and costs less than a socket object."""
    data = os.read(connection, 65536)
    if len(data) < HEADER or len(data) < HEADER + length(data[:HEADER], MAX_CALL):
        whole = bytearray(data)
        while len(whole) < HEADER or len(whole) < HEADER + length(bytes(whole[:HEADER]), MAX_CALL):
            more = os.read(connection, 1 << 20)
            if not more:
                raise WireError("the connection ended")
            whole += more
        data = bytes(whole)
    return split(data[HEADER:])


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
    if envelope["kind"] != "run" and exceeds(value, limit):
        # Making a text of it, only to find it too long, could take all the time that the call has.
        return "unfit", encode(f"result: it is too large: more than the {limit} bytes that may cross")
    try:
        answer = encode(value, "result")
    except UnfitValueError as error:
        return "unfit", encode(str(error))
    if len(answer) > limit and envelope["kind"] != "run":
        return "unfit", encode(
            f"result: it is too large: {len(answer)} bytes, where at most {limit} may cross"
        )
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
