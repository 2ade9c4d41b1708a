"""An MCP server that a machine may use, as its user declares it. Values only; `capsem.host.mcp` reads the file.

McpServer(name="files", command=("python3", "files.py"), policy="readonly", directory="/home/u", file="…", line=3)
McpServer(name="forge", url="https://mcp.example/mcp", headers=(("authorization", "Bearer ${secrets.forge}"),), …)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from capsem.errors import UsageError
from capsem.vm.remote import SECRET, field_problem, parse_address

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MOST = 32
"""Servers of one machine."""
HEADERS = 16
"""Of one server."""
DEFAULT_POLICY = "readonly"


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server: a program of the host, or one at an address.

    Attributes:
        name: what programs in the machine call it.
        command: the program and its arguments, run on the host; empty: it is at `url`.
        policy: what the program may do: a preset's name, or the path of a file.
        directory: where it runs.
        file: the file that declares it.
        line: where in it.
        changes: what becomes of a tool that it lists again as another than at first.
        url: where it is reached, through the machine's network; empty: it is a program.
        headers: of each request there, names in small letters; `${secrets.NAME}` in a value is a secret of the policy.
        transport: how it is spoken to there: `http` (streamable), or `sse` (that of 2024-11-05).
    """

    name: str
    command: tuple[str, ...]
    policy: str
    directory: str
    file: str
    line: int
    changes: Literal["refuse", "pass"] = "refuse"
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    transport: Literal["http", "sse"] = "http"

    def checked(self) -> McpServer:
        """This server, once it is known to make sense.

        Raises:
            UsageError: it does not.
        """
        texts = (*self.command, self.policy, self.directory)
        whole = self._placed() if self.url else self._started()
        whole = whole and self.changes in ("refuse", "pass") and self.transport in ("http", "sse")
        if NAME.fullmatch(self.name) is None or not whole or any("\0" in text for text in texts):
            raise UsageError(f"no MCP server: {self.name[:80]!r}", next_step="see docs/formats/mcp.md")
        return self

    def _started(self) -> bool:
        named = bool(self.command and self.command[0] and self.policy)
        return named and self.directory.startswith("/") and not self.headers

    def _placed(self) -> bool:
        try:
            secure = parse_address(self.url).secure
        except ValueError:
            return False
        if not secure and any(SECRET.search(value) for _, value in self.headers):
            return False  # a secret leaves over TLS only
        names = {name for name, _ in self.headers}
        sound = all(
            name == name.lower() and field_problem(name, value) is None for name, value in self.headers
        )
        alone = not (self.command or self.policy or self.directory)
        return alone and sound and len(names) == len(self.headers) <= HEADERS
