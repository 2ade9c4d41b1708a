"""What a program is shown of a server's answer to `tools/list`, and what a tool was when it was first listed. Pure.

A tool that no call can ever reach, since a rule blocks every one, is not shown. One that is listed again as another
than at first is neither shown nor called, unless the file of `--mcp` lets changes pass. Refuses a tool without a name
that can be compared and printed, a name twice in an answer, and more than `MOST` tools of one server.

    tools = Tools(refuse=refused_verdict)
    shown = tools.listed(line, never=lambda name: None)       # Shown(line, listed=3, hidden=(…,))
    tools.told("delete")                                      # {"tool_sha256": "…", "tool_changed": False}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from capsule.egress.verdict import Verdict

MOST = 1024
"""Tools of one server."""
NAME = 256
"""Characters of a tool's name."""
TOLD = 64
"""Tools that are not shown, each on the log with the reason; more are counted."""
_Members = dict[str, msgspec.Raw]
_LINE = msgspec.json.Decoder(_Members)
_TOOLS = msgspec.json.Decoder(list[msgspec.Raw])


def is_tool(untrusted_name: object) -> bool:
    """Whether a tool can be called so."""
    return (
        isinstance(untrusted_name, str) and 0 < len(untrusted_name) <= NAME and untrusted_name.isprintable()
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer as it goes on.

    Attributes:
        line: itself.
        listed: how many tools the server listed.
        hidden: those that are left out, with the reason.
    """

    line: bytes
    listed: int
    hidden: tuple[tuple[str, Verdict], ...]

    def section(self) -> dict[str, Any]:
        """What is recorded of it."""
        found: dict[str, Any] = {"tools_listed": self.listed, "tools_hidden": len(self.hidden)}
        if self.hidden:
            found["hidden"] = [
                {"tool": name, "decision": verdict.entry()} for name, verdict in self.hidden[:TOLD]
            ]
        return found


class Tools:
    """The tools of one server, as all programs of a machine were shown them.

    Args:
        refuse: what a tool that changed is refused with; None: changes pass.
    """

    def __init__(self, refuse: Verdict | None) -> None:
        self._refuse = refuse
        self._first: dict[str, str] = {}
        self._last: dict[str, str] = {}

    def told(self, tool: str) -> dict[str, Any]:
        """What is known of a tool; nothing of one that was never listed."""
        if tool not in self._last:
            return {}
        return {"tool_sha256": self._last[tool], "tool_changed": self._last[tool] != self._first[tool]}

    def refused(self, tool: str) -> Verdict | None:
        """Why a tool that changed is not to be called."""
        if self._refuse is None or not self.told(tool).get("tool_changed"):
            return None
        return replace(self._refuse, reason=f"the tool {tool} is not what its server listed first")

    def listed(self, line: bytes, never: Callable[[str], Verdict | None]) -> Shown | None:
        """What is shown of an answer; None when it lists nothing: an error, or a result without tools.

        Args:
            line: the whole answer, a message of JSON-RPC that was read already.
            never: why no call of a tool goes on; None when one might.

        Raises:
            ValueError: it cannot be taken apart: half a character, say.
        """
        try:
            message = _LINE.decode(line)
            result = msgspec.json.decode(message.get("result", b"null"), type=_Members)
            tools = _TOOLS.decode(result["tools"])
        except (msgspec.ValidationError, KeyError):
            return None
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from None
        kept: list[msgspec.Raw] = []
        hidden: list[tuple[str, Verdict]] = []
        seen: set[str] = set()
        for one in tools:
            untrusted = json.loads(bytes(one))
            name = untrusted.get("name") if isinstance(untrusted, dict) else None
            why = self._met(name, untrusted, seen) or never(str(name))
            if why is None:
                kept.append(one)
            else:
                hidden.append((_written(name), why))
        if hidden:
            encode = msgspec.json.encode
            result["tools"] = msgspec.Raw(encode(kept))
            line = encode({**message, "result": msgspec.Raw(encode(result))}) + b"\n"
        return Shown(line, len(tools), tuple(hidden))

    def _met(self, untrusted_name: object, untrusted: object, seen: set[str]) -> Verdict | None:
        """Takes note of a tool as it is listed now; why it is not shown."""
        if not is_tool(untrusted_name):
            return Verdict("block", "protocol", f"no name of 1 to {NAME} characters that can be printed")
        name = str(untrusted_name)
        if name in seen:
            return Verdict("block", "protocol", "another tool of the answer has its name")
        seen.add(name)
        if name not in self._first and len(self._first) >= MOST:
            return Verdict("block", "protocol", f"the server has listed {MOST} others")
        whole = json.dumps(untrusted, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(whole.encode()).hexdigest()
        self._first.setdefault(name, digest)
        self._last[name] = digest
        return self.refused(name)


def _written(untrusted_name: object) -> str:
    """A name for the log: what is none of text says so, and what is too long is cut."""
    if not isinstance(untrusted_name, str):
        return ""
    return untrusted_name[:NAME].encode("utf-8", "replace").decode()
