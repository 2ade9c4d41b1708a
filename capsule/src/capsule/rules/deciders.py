"""Which event a rule can decide, and where: a rule that nobody asks is refused, not left to pass everything.

Pure. In a sandbox of capsule `capsule-egress` decides, before anything goes out. Programs and files are decided by the
policy alone: what is done with them natively is not held up for a rule. A machine of capsem asks about these too.

    refuse_undecided(files, EGRESS)      # RuleError at the place of the event or the action
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from capsule.errors import Problem
from capsule.rules.rule import RuleError, RuleFile


@dataclass(frozen=True, slots=True)
class Asked:
    """Where an event is decided, and which actions of a rule are possible there."""

    where: str
    actions: tuple[str, ...]


EGRESS: Final[Mapping[str, Asked]] = {
    "http": Asked("at the request's headers, or with its body", ("allow", "ask", "block", "rewrite")),
    "http_response": Asked("at the answer's headers", ("allow", "ask", "block", "rewrite")),
    "dns": Asked("at the question", ("allow", "block")),
    "tcp": Asked("before the connection is taken up", ("allow", "ask", "block")),
    "model": Asked("with the request's body, after `http`", ("allow", "ask", "block")),
    "mcp": Asked("with the request's body, each message, after `http`", ("allow", "ask", "block")),
    "websocket": Asked("at the upgrade, after `http`", ("allow", "ask", "block")),
}
MACHINE: Final[Mapping[str, Asked]] = {
    **EGRESS,
    "process": Asked("by the machine's monitor, before a command is run", ("allow", "ask", "block")),
    "file": Asked("by the machine's monitor, before a file is copied", ("allow", "ask", "block")),
}
"""In a machine: one file of rules may be about its network and about its commands."""
_INSTEAD: Final = {
    "process": "say in the policy which programs may run (`process:`); for findings use `detect:`",
    "file": "say in the policy which files may be used (`filesystem:`); for findings use `detect:`",
    "dns": "no resolver waits for a person: block, or ask in a rule on http",
}


def refuse_undecided(files: Iterable[RuleFile], asked: Mapping[str, Asked]) -> Sequence[RuleFile]:
    """The files.

    Raises:
        RuleError: with every rule on an event that nobody asks about, or whose action cannot be taken there.
    """
    found = list(files)
    problems = []
    for file in found:
        for rule in file.rules:
            for on, *place in rule.places:
                decided = asked.get(on)
                if decided is not None and rule.action in decided.actions:
                    continue
                what = f"rule {rule.id}: nobody asks rules about a {on} event before it happens: it never decides"
                step = _INSTEAD.get(on, "take it out")
                if decided is not None:
                    what = f"rule {rule.id}: {rule.action} is not possible on {on}"
                    step = _INSTEAD.get(on, f"one of {', '.join(decided.actions)}")
                line, column = rule.acts if decided is not None else place
                problems.append(Problem(file.file, line, column, what, next_step=step))
    if problems:
        raise RuleError(problems)
    return found
