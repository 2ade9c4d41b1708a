"""What is asked for: one machine, as its user describes it. Values only; nothing is looked up here.

Refuses a machine that could not be: no processor, memory a kernel does not boot in, variables that are none.

    MachineSpec(image="default", memory_mib=512).checked()
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from capsem.errors import UsageError
from capsem.vm.bounds import LEAST_DISK, LEAST_MEMORY, MOST_CPUS, MOST_DISK, MOST_MEMORY
from capsem.vm.mcp import MOST, McpServer
from capsem.vm.network import NetworkSpec
from capsem.vm.quantities import machine_name

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class RuleText:
    """A file of rules as it was when the machine was made: its path, for errors and records, and its text."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A machine as it was asked for.

    Attributes:
        image: the name or digest of an image.
        name: its name; None for a temporary machine, which is deleted when it stops.
        cpus: virtual processors.
        memory_mib: memory, MiB.
        disk_mib: the size of its own disk, MiB; None: what it writes is kept in its memory and ends with a stop.
        env: variables for every command in it.
        rules: files of rules that decide what is run and copied; with none, everything may be.
        workspace: a directory of the host that is copied to /workspace, where commands then run; absolute.
        network: what may be reached; None: nothing.
        share: whether the workspace is copied, or is the directory of the host itself (`live`).
        mcp: the MCP servers of the host that its programs may use.
    """

    image: str = "default"
    name: str | None = None
    cpus: int = 1
    memory_mib: int = 512
    disk_mib: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[RuleText, ...] = ()
    workspace: str | None = None
    network: NetworkSpec | None = None
    share: Literal["copy", "live"] = "copy"
    mcp: tuple[McpServer, ...] = ()

    def checked(self) -> MachineSpec:
        """This spec, once it is known to make sense.

        Raises:
            UsageError: a value is out of range.
        """
        if self.name is not None:
            machine_name(self.name)
        ranges: tuple[tuple[str, int | None, int, int], ...] = (
            ("cpus", self.cpus, 1, MOST_CPUS),
            ("memory", self.memory_mib, LEAST_MEMORY, MOST_MEMORY),
            ("disk", self.disk_mib, LEAST_DISK, MOST_DISK),
        )
        for what, value, least, most in ranges:
            if value is not None and not least <= value <= most:
                raise UsageError(f"{what} {value} is out of range", next_step=f"from {least} to {most}")
        for name, text in self.env.items():
            if _VARIABLE.fullmatch(name) is None or "\0" in text:
                raise UsageError(f"{name!r} is no variable", next_step="write -e NAME=VALUE")
        if self.workspace is not None and (not self.workspace.startswith("/") or "\0" in self.workspace):
            raise UsageError(
                f"the workspace {self.workspace!r} is no absolute path", next_step="name a directory"
            )
        names = {server.checked().name for server in self.mcp}
        if len(names) < len(self.mcp) or len(self.mcp) > MOST:
            raise UsageError(
                f"MCP servers: {len(self.mcp)}", next_step=f"at most {MOST}, each with a name of its own"
            )
        if self.live and self.workspace is None:
            raise UsageError("a live share of nothing", next_step="name the directory: --workspace DIR")
        return self

    @property
    def live(self) -> bool:
        """Whether its workspace is the host's directory itself."""
        return self.share == "live"

    @property
    def persistent(self) -> bool:
        """Whether it outlives its stop."""
        return self.name is not None
