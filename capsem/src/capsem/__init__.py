"""A whole Linux machine for an agent, with no network card, under a policy, on the record.

    from capsem import Sandbox

    with Sandbox.create() as box:                    # a temporary machine
        print(box.commands.run("uname -a").stdout)

Names are imported when they are first used; `capsem.errors` has every exception.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capsem.sdk.async_sandbox import AsyncSandbox as AsyncSandbox
    from capsem.sdk.command import CommandExitError as CommandExitError
    from capsem.sdk.command import CommandResult as CommandResult
    from capsem.sdk.evidence import AsyncEvidence as AsyncEvidence
    from capsem.sdk.evidence import Evidence as Evidence
    from capsem.sdk.sandbox import Sandbox as Sandbox

_HOME = {
    "AsyncEvidence": "capsem.sdk.evidence",
    "AsyncSandbox": "capsem.sdk.async_sandbox",
    "CommandExitError": "capsem.sdk.command",
    "CommandResult": "capsem.sdk.command",
    "Evidence": "capsem.sdk.evidence",
    "Sandbox": "capsem.sdk.sandbox",
}

__all__ = [*_HOME]  # noqa: PLE0604 - the names of the table above, which a test compares with the imports


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'capsem' has no attribute {name!r}")
    found = getattr(importlib.import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
