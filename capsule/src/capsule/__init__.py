"""One command, or one Python tool call, under a policy, on the record.

    import capsule

    result = capsule.run(["pytest", "-q"])         # one command: exit code, output, what was refused

    @capsule.tool(timeout=5)                       # one function: its body runs inside
    def fetch(path: str) -> str: ...

    with capsule.Sandbox() as box:                 # a warm sandbox of one's own
        box.run(["git", "status"])

Every name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capsule.errors import ArgumentError as ArgumentError
    from capsule.errors import CallTimeoutError as CallTimeoutError
    from capsule.errors import CapsuleError as CapsuleError
    from capsule.errors import CommandFailed as CommandFailed
    from capsule.errors import NotCallableInsideError as NotCallableInsideError
    from capsule.errors import PolicyError as PolicyError
    from capsule.errors import ResultError as ResultError
    from capsule.errors import SandboxError as SandboxError
    from capsule.errors import ToolError as ToolError
    from capsule.errors import WorkerError as WorkerError
    from capsule.sdk.result import Denial as Denial
    from capsule.sdk.result import RunResult as RunResult
    from capsule.sdk.result import ToolResult as ToolResult
    from capsule.sdk.result import last_result as last_result
    from capsule.sdk.runner import arun as arun
    from capsule.sdk.runner import run as run
    from capsule.sdk.sandbox import Sandbox as Sandbox
    from capsule.sdk.tool import tool as tool
    from capsule.sdk.values import UnfitValueError as UnfitValueError

_HOMES = {
    "capsule.errors": (
        "ArgumentError",
        "CallTimeoutError",
        "CapsuleError",
        "CommandFailed",
        "NotCallableInsideError",
        "PolicyError",
        "ResultError",
        "SandboxError",
        "ToolError",
        "WorkerError",
    ),
    "capsule.sdk.result": ("Denial", "RunResult", "ToolResult", "last_result"),
    "capsule.sdk.runner": ("arun", "run"),
    "capsule.sdk.sandbox": ("Sandbox",),
    "capsule.sdk.tool": ("tool",),
    "capsule.sdk.values": ("UnfitValueError",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME]  # noqa: PLE0604 - the names of the table above, which a test compares with the imports


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'capsule' has no attribute {name!r}")
    found = getattr(importlib.import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
