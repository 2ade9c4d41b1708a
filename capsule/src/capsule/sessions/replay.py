"""Every recorded event decided anew, under another policy: what would change. Pure.

Files, programs and variables are decided as the launcher does (`Access`), names, connections and requests as egress
does (`Judge`), with the policy's rules. In a repository that the run made, lines about repositories do not hold then
either.
What the log does not have, nothing is said about: reads below the audit level `all`, system calls, bodies of requests,
budgets, addresses after resolution. What a program does after another answer is not known either: only the events that
were recorded are decided.

    anew = Replay(access, judge, Variables("/w", "/home/u", "/w"))
    anew.decide("file", event)      # Answer('allow', …), or None
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from capsule.egress.judgement import Judge, Judgement
from capsule.policy.addresses import HostError, normalise_host
from capsule.rules.entry import text
from capsule.sandbox.access import Access, Decision, Want
from capsule.sessions.subject import OURS, place_of, subject_of

Outcome = Literal["allow", "ask", "block"]
ALWAYS = "capsule:always"
"""Where it is written that a name is kept whatever a policy says."""
MAX_CHANGES = 10_000
"""Different changes that are kept apart; what comes after is counted only."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is decided now: the outcome, why, and where that is written."""

    outcome: Outcome
    why: str = ""
    place: str = ""


@dataclass(slots=True)
class Change:
    """Events that would be decided otherwise.

    Attributes:
        was: what was decided.
        now: what would be.
        kind: type of the event.
        what: its subject.
        answer: the line that decides now.
        run: the first session it happened in.
        seq: and its first place on the log.
        count: how many times.
    """

    was: Outcome
    now: Outcome
    kind: str
    what: str
    answer: Answer
    run: str
    seq: int
    count: int = 0


@dataclass(slots=True)
class Comparison:
    """What a replay came to: counts of the same and of the changed, and of what cannot be decided from a log."""

    same: int = 0
    changed: int = 0
    undecided: int = 0
    changes: dict[tuple[str, str, str, str], Change] = field(default_factory=dict)

    def add(self, replay: Replay, run: str, seq: int, kind: str, event: Mapping[str, Any]) -> None:
        """One event more."""
        answer = replay.decide(kind, event)
        if answer is None:
            self.undecided += 1
            return
        was = decided(event)
        count = times(event)
        if answer.outcome == was:
            self.same += count
            return
        self.changed += count
        what = replay.shown(kind, event)
        key = (was, answer.outcome, kind, what)
        if key not in self.changes and len(self.changes) >= MAX_CHANGES:
            return
        change = self.changes.setdefault(key, Change(was, answer.outcome, kind, what, answer, run, seq))
        change.count += count


class Replay:
    """A policy, ready to decide what was recorded."""

    def __init__(
        self,
        access: Access,
        judge: Judge | None,
        kept: Callable[[str, Want], str | None] = lambda _path, _want: None,
    ) -> None:
        """A policy.

        Args:
            access: its files, programs and local addresses, for the directories of the session.
            judge: its hosts and rules; None where it lets nothing out.
            kept: why a run keeps a path from a use that the policy grants; None where it does not.
        """
        self.access = access
        self.judge = judge
        self._kept = kept
        plan = access.plan.filesystem
        self._named = {access.variables.path(grant.path) for grant in plan.read + plan.write}
        self._made: dict[int, str] = {}

    def follow(self, event: Mapping[str, Any]) -> None:
        """An entry `repository`: the run made one, it is called otherwise now, or it is gone.

        Args:
            event: `number`, and `target`: the absolute path of its `.git`, or None.
        """
        number, target = event.get("number"), text(event.get("target"))
        if not isinstance(number, int):
            return
        if target is not None and target.startswith("/"):
            self._made[number] = target
        else:
            self._made.pop(number, None)

    def _own(self, path: str) -> bool:
        return any(path == made or path.startswith(f"{made}/") for made in self._made.values())

    def decide(self, kind: str, event: Mapping[str, Any]) -> Answer | None:
        """What the policy says of the event; None where a log does not have what it would take."""
        section = event.get(kind)
        if not isinstance(section, dict):
            return None
        try:
            decide = getattr(self, f"_{kind}", None)
            found: Answer | None = decide(section, event) if decide is not None else None
        except (KeyError, TypeError, ValueError, HostError):
            return None  # an event that lacks what it is decided by
        return found

    def shown(self, kind: str, event: Mapping[str, Any]) -> str:
        """The subject, with paths as a person in the session's directory writes them."""
        written = self.access.variables.written
        if kind == "process":
            return f"run {written(str(event['process']['path']))}"
        if kind == "file":
            return f"{event['file']['operation']} {written(str(event['file']['path']))}"
        if kind == "environment":
            return f"variable {event['environment']['name']}"
        if kind == "tcp":
            return f"connect {place_of(event['tcp'])}"
        return subject_of({key: value for key, value in event.items() if key != "program"})

    def _file(self, file: Mapping[str, Any], event: Mapping[str, Any]) -> Answer | None:
        if "path" not in file:
            raise KeyError("path")
        if file.get("operation") == "read" and str(file["path"]).startswith(OURS):
            return None
        want: Want = "read" if file["operation"] == "read" else "write"
        names = [_absolute(file[name]) for name in ("from", "path") if name in file]
        answers = [self._use(name, want, event) for name in names]
        return next((answer for answer in answers if answer.outcome == "block"), answers[-1])

    def _environment(self, variable: Mapping[str, Any], _: Mapping[str, Any]) -> Answer | None:
        name = str(variable["name"])
        if variable.get("from") == "policy" and self.access.puts(name) is None:
            # Whether the caller had one of this name too is not on the log.
            return None if self.access.variable(name).granted else _granted(self.access.variable(name))
        return _granted(self.access.variable(name))

    def _process(self, process: Mapping[str, Any], event: Mapping[str, Any]) -> Answer:
        return self._use(_absolute(process["path"]), "execute", event)

    def _use(self, path: str, want: Want, event: Mapping[str, Any]) -> Answer:
        """What the policy says, and what a run keeps although a policy grants it (docs/formats/policy.md, "Kept")."""
        answer = _granted(self.access.path(path, want, own=self._own(path)))
        if answer.outcome == "block":
            return answer
        why = self._kept(path, want) or (_always(event) if path not in self._named else None)
        return Answer("block", why, ALWAYS) if why else answer

    def _tcp(self, tcp: Mapping[str, Any], event: Mapping[str, Any]) -> Answer | None:
        address = text(tcp.get("address")) or ""
        if address.startswith("unix:"):
            return _granted(self.access.address(address))
        host = text(tcp.get("host")) or text(tcp.get("sni")) or address
        port = int(tcp["port"])
        if host in ("127.0.0.1", "::1", "localhost"):
            return _granted(self.access.address(f"tcp:{f'[{host}]' if ':' in host else host}:{port}"))
        if self.judge is None:
            return _granted(self.access.address(f"tcp:{host}:{port}"))
        shown = {**event, "event": {"type": "tcp"}, "tcp": {**tcp, "host": normalise_host(host).name}}
        return _judged(self.judge.passing(shown))

    def _dns(self, dns: Mapping[str, Any], _: Mapping[str, Any]) -> Answer:
        if self.judge is None:
            return Answer("block", "no host is listed")
        verdict = self.judge.name(
            normalise_host(str(dns["name"])).name, str(dns["qtype"]), str(dns.get("transport"))
        )
        return Answer("allow" if verdict.allowed else "block", verdict.reason, _place(verdict.rule))

    def _http(self, http: Mapping[str, Any], event: Mapping[str, Any]) -> Answer:
        if self.judge is None:
            return Answer("block", "no host is listed")
        if (why := refused_by_all(event)) is not None:
            return Answer("block", why)
        # As it was at the request's head: the answer, and what was decided, were not known then.
        known = {key: value for key, value in http.items() if key not in _LATER}
        known["host"] = normalise_host(str(http["host"])).name
        shown = {"event": {"type": "http"}, "program": event.get("program", {}), "http": known}
        judged = self.judge.request(shown, "request")
        if judged.pending:
            return Answer(
                "ask", "a rule reads the body, which is not on the log", _place(judged.verdict.rule)
            )
        return _judged(judged)


def _always(event: Mapping[str, Any]) -> str | None:
    """Why the run that this happened in kept the name, whatever its policy said."""
    denial = event.get("denial")
    rule = denial.get("rule") if isinstance(denial, dict) else None
    return text(rule.get("text")) if isinstance(rule, dict) and rule.get("file") == ALWAYS else None


_LATER = frozenset({"body", "status", "response", "duration_us", "first_byte_us", "error", "address"})


def decided(event: Mapping[str, Any]) -> Outcome:
    """What was decided when it happened; a run's own events carry a decision only when they were refused."""
    decision = event.get("decision")
    action = decision.get("action") if isinstance(decision, dict) else None
    return "block" if action == "block" else "allow"


def refused_by_all(event: Mapping[str, Any]) -> str | None:
    """Why no policy lets it: a placeholder where it may not go, two names that differ, what is no request. Else None.

    What was seen is not on the log in all its bytes, so it cannot be decided anew.
    """
    before = event.get("decision")
    if not isinstance(before, dict) or before.get("action") != "block":
        return None
    by = text(before.get("by"))
    return (text(before.get("reason")) or by) if by in ("secret", "name", "protocol") else None


def times(event: Mapping[str, Any]) -> int:
    """How many equal ones one event stands for."""
    for section in ("denial", "dns"):
        found = event.get(section)
        if isinstance(found, dict) and isinstance(found.get("count"), int) and found["count"] > 0:
            return int(found["count"])
    return 1


def ranked(changes: Iterable[Change]) -> list[Change]:
    """What would be refused first, then what would be asked, then what would be let through; the frequent first."""
    order = {"block": 0, "ask": 1, "allow": 2}
    return sorted(changes, key=lambda change: (order[change.now], -change.count, change.kind, change.what))


def grouped(changes: Iterable[Change], least: int = 4) -> list[Change]:
    """Changes for one reason whose names lie in one directory, or on one host, as one: `create ./src/… (9 names)`.

    So are variables: `variable … (9 names)`.
    """
    together: dict[tuple[str, str, str, str], list[Change]] = {}
    for change in changes:
        parent = change.what.rpartition("/")[0] + "/" if change.kind in ("file", "http") else change.what
        parent = "variable " if change.kind == "environment" else parent
        together.setdefault((change.now, change.kind, parent, change.answer.why), []).append(change)
    found: list[Change] = []
    for (_, _, parent, _), several in together.items():
        if len(several) < least:
            found += several
            continue
        count = sum(change.count for change in several)
        found.append(replace(several[0], what=f"{parent}… ({len(several)} names)", count=count))
    return ranked(found)


def _absolute(value: Any) -> str:
    path = text(value)
    if path is None or not path.startswith("/"):
        raise ValueError("not an absolute path")
    return path


def _place(rule: Mapping[str, Any] | None) -> str:
    return f"{rule['file']}:{rule['line']}" if rule and "file" in rule and "line" in rule else ""


def _granted(decision: Decision) -> Answer:
    rule = decision.rule
    place = f"{rule.origin.file}:{rule.origin.line}" if rule is not None else ""
    if decision.granted:
        return Answer("allow", rule.text if rule is not None else "", place)
    return Answer("block", rule.text if rule is not None else "nothing allows it", place)


def _judged(judged: Judgement) -> Answer:
    verdict = judged.verdict
    outcome: Outcome = "ask" if judged.asks is not None else "allow" if verdict.allowed else "block"
    name = verdict.rule.get("id") if verdict.rule else None
    return Answer(outcome, verdict.reason or str(name or ""), _place(verdict.rule))
