"""An MCP server that a machine may use, as its user declares it. Values only; `capsem.host.mcp` reads the file.

McpServer(name="files", command=("python3", "files.py"), policy="readonly", directory="/home/u", file="…", line=3)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from capsem.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MOST = 32
"""Servers of one machine."""
DEFAULT_POLICY = "readonly"


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server.

    Attributes:
        name: what programs in the machine call it.
        command: the program and its arguments, run on the host.
        policy: what the program may do: a preset's name, or the path of a file.
        directory: where it runs.
        file: the file that declares it.
        line: where in it.
        changes: what becomes of a tool that it lists again as another than at first.
    """

    name: str
    command: tuple[str, ...]
    policy: str
    directory: str
    file: str
    line: int
    changes: Literal["refuse", "pass"] = "refuse"

    def checked(self) -> McpServer:
        """This server, once it is known to make sense.

        Raises:
            UsageError: it does not.
        """
        texts = (*self.command, self.policy, self.directory)
        whole = self.command and self.command[0] and self.policy and self.directory.startswith("/")
        whole = whole and self.changes in ("refuse", "pass")
        if NAME.fullmatch(self.name) is None or not whole or any("\0" in text for text in texts):
            raise UsageError(f"no MCP server: {self.name[:80]!r}", next_step="see docs/formats/mcp.md")
        return self
