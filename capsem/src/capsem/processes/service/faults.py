"""An error as the service's answer: the form that every client reads back (`capsem.host.operation.raised`).

await answer(UsageError("too much"), 413, close=True)(scope, receive, send)
"""

from __future__ import annotations

import msgspec
from fastapi.responses import JSONResponse

from capsem.errors import CapsemError
from capsem.host.operation import told


def answer(error: CapsemError, code: int, *, close: bool = False) -> JSONResponse:
    """The answer; itself an application that gives it.

    Args:
        error: what went wrong.
        code: of HTTP.
        close: say that the connection ends with it.
    """
    headers = {"connection": "close"} if close else None
    return JSONResponse({"error": msgspec.to_builtins(told(error))}, code, headers)
