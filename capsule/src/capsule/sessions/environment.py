"""Variables of sessions: what a policy would have to pass and set, from what their starts have of them. Pure.

A log has names and never values: what the caller had and the command got (`passed`), what the policy put in (`set`),
what the command line put in (`chosen`), what the caller had and the command did not get (`withheld`). Which of them a
program read is on no log: it reads them in its own memory. It refuses a name that cannot be written in a policy.

    seen = Environment(); seen.add(event); seen.passed["CI"]      # 1
    [variable["environment"]["name"] for variable in variables_of(event)]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from capsule.policy.environment import runs_code
from capsule.policy.glob import matches_name
from capsule.rules.entry import section, words
from capsule.sandbox.access import Access

Json = Mapping[str, Any]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEFT_OUT = "[omitted:"
"""How an entry of the log ends a list that it does not have all of."""


def variables_of(start: Json) -> Iterator[dict[str, Any]]:
    """The variables of a session's start, each as an event that can be decided anew; a withheld one was blocked.

    Those of the command line are no policy's affair.
    """
    for name in _names(start, "passed"):
        yield {"environment": {"name": name, "from": "caller"}}
    for name in _names(start, "set"):
        yield {"environment": {"name": name, "from": "policy"}}
    for name in _names(start, "withheld"):
        yield {"environment": {"name": name, "from": "caller"}, "decision": {"action": "block"}}


def _names(start: Json, how: str) -> list[str]:
    found = section(start, "environment").get(how)
    return [name for name in words(found) if not name.startswith(_LEFT_OUT)]


@dataclass(frozen=True, slots=True)
class Granted:
    """An entry of `env` in the making; `value` is the one of `set`."""

    key: str
    name: str
    count: int
    value: str | None = None
    warning: str | None = None


@dataclass(slots=True)
class Environment:
    """What sessions were given, counted.

    Attributes:
        passed: name → sessions.
        put: names of `set` → sessions.
        withheld: name → sessions.
        unknown: sessions whose start says nothing of it.
        incomplete: sessions whose start has not all of it.
    """

    passed: Counter[str] = field(default_factory=Counter)
    put: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    incomplete: int = 0

    def add(self, start: Json) -> None:
        """The start of one session more."""
        if not isinstance(start.get("environment"), dict):
            self.unknown += 1
            return
        kinds = (("passed", self.passed), ("set", self.put), ("withheld", self.withheld))
        for how, counts in kinds:
            counts.update(set(_names(start, how)))
        found = section(start, "environment")
        if any(name.startswith(_LEFT_OUT) for how, _ in kinds for name in words(found.get(how))):
            self.incomplete += 1

    def grants(self, base: Access, values: Mapping[str, str]) -> tuple[list[Granted], list[str], list[str]]:
        """The entries over a preset that give programs the same again.

        Args:
            base: the preset beneath.
            values: of `set`, from the policies that the sessions ran under.

        Returns:
            The entries; names that no policy can pass; names that were set to what is not known, or better not copied.
        """
        found: list[Granted] = []
        scrubs: Counter[str] = Counter()
        unwritable: list[str] = []
        for name, count in sorted(self.passed.items()):
            decision = base.variable(name)
            if decision.granted:
                continue
            if not _NAME.fullmatch(name):
                unwritable.append(name)
                continue
            patterns = _scrubbed(base, name)
            scrubs.update(dict.fromkeys(patterns, count))
            warning = "its name says that it is a secret, or runs code" if patterns else None
            if runs_code(name):
                warning = "programs that find it run what it names"
            found.append(Granted("pass", name, count, warning=warning))
        unknown: list[str] = []
        for name, count in sorted(self.put.items()):
            if base.puts(name) is not None:
                continue
            if name not in values or (_scrubbed(base, name) and not runs_code(name)):
                unknown.append(name)
            else:
                found.append(Granted("set", name, count, values[name]))
        why = "the names above would not pass with it; `pass` still names what does"
        found += [
            Granted("scrub.remove", pattern, count, warning=why) for pattern, count in sorted(scrubs.items())
        ]
        return found, unwritable, unknown


def _scrubbed(base: Access, name: str) -> list[str]:
    return [entry.name for entry in base.environment.scrub.add if matches_name(entry.name, name)]
