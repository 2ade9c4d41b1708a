"""Events for tests of detection, short to write."""

from __future__ import annotations

import itertools
import math
from typing import Any

_number = itertools.count(1)


def event(kind: str, at: float = 0, run: str = "r", program: str = "bash", **fields: Any) -> dict[str, Any]:
    """An event of a type, `at` seconds after a fixed moment."""
    minutes, seconds = divmod(at, 60)
    time = f"2026-01-01T{int(minutes) // 60:02}:{int(minutes) % 60:02}:{math.floor(seconds):02}.{int(seconds % 1 * 1e6):06}Z"
    return {
        "event": {"id": f"e{next(_number)}", "type": kind, "time": time},
        "run": run,
        "program": {"path": f"/usr/bin/{program}", "name": program, "argv": [program], "pid": 4},
        kind: fields,
    }


def process(*argv: str, at: float = 0, path: str = "", **more: Any) -> dict[str, Any]:
    """A program that is started."""
    where = path or f"/usr/bin/{argv[0]}"
    return event(
        "process",
        at,
        path=where,
        name=where.rpartition("/")[2],
        argv=list(argv),
        command=" ".join(argv),
        pid=7,
        **more,
    )


def file(operation: str, path: str, at: float = 0, old: str = "", **more: Any) -> dict[str, Any]:
    """Something done to a file."""
    name = path.rpartition("/")[2]
    fields = {"operation": operation, "path": path, "name": name, "ext": name.rpartition(".")[2]}
    if old:
        fields["from"] = old
    return event("file", at, **{**fields, **more})


def http(
    method: str, url: str, at: float = 0, decision: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A request."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    fields = {"method": method, "scheme": scheme, "host": host, "path": "/" + path, "url": url, "port": 443}
    found = event("http", at, **{**fields, **more})
    return found if decision is None else {**found, "decision": decision}


def dns(name: str, qtype: str = "A", at: float = 0, entropy: float = 2.0) -> dict[str, Any]:
    """A question."""
    return event(
        "dns", at, name=name, qtype=qtype, labels=name.count(".") + 1, length=len(name), entropy=entropy
    )
