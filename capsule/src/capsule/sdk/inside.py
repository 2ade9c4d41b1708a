"""Whether this process is a worker inside a sandbox, and what that worker serves.

`@capsule.tool` asks here: outside, a call crosses into a sandbox; inside, the function itself runs. Nothing
here grants anything: a process that lies to itself about being inside merely runs its own function.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """The sandbox this process lives in.

    Attributes:
        policy: the policy as the program named it, or None for the default.
        tool: the tool whose overrides are in force, or None.
        tools: every tool name the policy has overrides for.
    """

    policy: str | None
    tool: str | None
    tools: frozenset[str]

    def serves(self, policy: str | None, tool: str) -> bool:
        """Whether a tool of this name and policy may run here as it is."""
        return policy == self.policy and self.tool == (tool if tool in self.tools else None)


class ReachedCall(BaseException):
    """The main script came to a call of a tool, with no `if __name__ == "__main__":` around it."""


here: Place | None = None
"""None outside any sandbox."""

reading: bool = False
"""Whether the program's main script is being read, down to its first call of a tool."""

calling: bool = False
"""Whether this process is serving a call right now (False while modules are being imported)."""
