"""The register of one run's asks: who waits for a person, what was answered, for what and how long.

Pure; times are milliseconds of the caller's clock, ids are the caller's. An answer holds for the one thing that was
asked (`once`), for the same method and path at the host (`path`), or for everything at the host (`host`), always under
the rule that asked; without a duration until the run ends. Nobody's answer is *deny*, and so is a question too many.

    asks = Asks("run-7")
    found = asks.ask(Question(event, rule, program, argv), now, new_id="a1", timeout_ms=120_000)
    found                                    # Outcome: an earlier answer covers it; or Ask: wait for its outcome
    asks.answer("a1", Answer("allow", "host", for_ms=600_000), now, by="terminal")
    for ask in asks.due(now): ...            # nobody answered these
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from capsule.policy.quantities import parse_quantity
from capsule.policy.urlpath import target_of

Action = Literal["allow", "deny"]
Scope = Literal["once", "path", "host"]
WAITING = 64
"""Asks that wait at once; more are denied."""
STANDING = 1024
"""Answers that hold for more than once; the oldest are forgotten, and are then asked for again."""
HISTORY = 256
TOLD = 8
"""Of what was asked before, told with an ask."""
_LARGEST = 4096
_ACTIONS: tuple[Action, ...] = get_args(Action)
_SCOPES: tuple[Scope, ...] = get_args(Scope)


class AnswerError(ValueError):
    """What came is not an answer of the documented form."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's.

    Attributes:
        action: what happens.
        scope: what it holds for.
        for_ms: how long it holds; None: until the run ends. Of no meaning with `once`.
    """

    action: Action
    scope: Scope
    for_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an ask ended.

    Attributes:
        allowed: whether it goes on.
        why: one clause: `allowed by terminal`, `nobody answered within 120 s` …
        ask_id: of the ask that was answered.
    """

    allowed: bool
    why: str
    ask_id: str


@dataclass(frozen=True, slots=True)
class Question:
    """What has to be judged.

    Attributes:
        event: as rules see it; its host, method and path are what scopes are about.
        rule: `{id, file, line, reason}`; None when `unlisted: ask` asks.
        program: path of the program.
        argv: its words.
        command: what the run was started with.
        content: a digest of what it carries, as far as that is known; another content is another question.
    """

    event: Mapping[str, Any]
    rule: Mapping[str, Any] | None
    program: str | None = None
    argv: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    content: str = ""

    @property
    def host(self) -> str:
        """The host that it is about; empty for an event without one."""
        for section in self._sections():
            found = section.get("host") or section.get("name") or section.get("server")
            if isinstance(found, str):
                return found
        return ""

    @property
    def what(self) -> str:
        """In one line, for a person."""
        section = next(iter(self._sections()), {})
        names = ("method", "url") if section.get("url") else ("method", "tool", "name", "host")
        words = (str(section[name]) for name in names if section.get(name))
        return " ".join(words) or str(self._kind())

    def key(self, scope: Scope) -> tuple[object, ...]:
        """What has this key is covered by an answer of this scope."""
        rule = self.rule.get("id") if self.rule is not None else None
        place = (rule, self._kind(), self.host, self._get("port"))
        if scope == "host":
            return place[:3]
        if scope == "path":
            return (*place, self._get("method"), self._path(), self._get("tool"))
        return (
            *place,
            self._get("method"),
            self._path(),
            self._get("tool"),
            self._get("query"),
            self.program,
            self.argv,
            self.content,
        )

    def _path(self) -> object:
        """As it was sent: an answer for a path is none for another spelling of it."""
        url = self._get("url")
        return target_of(url).partition("?")[0] if isinstance(url, str) else self._get("path")

    def _kind(self) -> object:
        return self.event.get("event", {}).get("type")

    def _sections(self) -> list[Mapping[str, Any]]:
        kind = self._kind()
        own = self.event.get("http" if kind == "http_response" else str(kind))
        return [own] if isinstance(own, Mapping) else []

    def _get(self, name: str) -> object:
        return next((section.get(name) for section in self._sections()), None)


@dataclass(slots=True)
class Ask:
    """One that waits, or is over.

    Attributes:
        joined: how many equal questions wait for the same answer.
        outcome: None while it waits.
    """

    id: str
    question: Question
    at_ms: int
    expires_ms: int
    joined: int = 1
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class _Past:
    at_ms: int
    rule: object
    host: str
    what: str
    outcome: str


@dataclass(slots=True)
class Asks:
    """See the module. `version` grows with every change, for whoever waits for one."""

    run: str
    version: int = 0
    _waiting: dict[str, Ask] = field(default_factory=dict)
    _standing: dict[tuple[object, ...], tuple[Answer, int | None, str]] = field(default_factory=dict)
    _past: deque[_Past] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _over: deque[str] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def ask(self, question: Question, now_ms: int, *, new_id: str, timeout_ms: int) -> Ask | Outcome:
        """Puts a question, or says at once how it ends.

        Args:
            question: what has to be judged.
            now_ms: the caller's clock.
            new_id: of the ask that this becomes, unless an equal one waits already.
            timeout_ms: of the rule.
        """
        if (held := self._held(question, now_ms)) is not None:
            answer, origin = held
            why = f"answered before for this {answer.scope} ({answer.action})"
            return Outcome(answer.action == "allow", why, origin)
        key = question.key("once")
        for ask in self._waiting.values():
            if ask.question.key("once") == key:
                ask.joined += 1
                return ask
        if len(self._waiting) >= WAITING:
            return Outcome(False, f"{WAITING} asks wait already", new_id)
        ask = Ask(new_id, question, now_ms, now_ms + timeout_ms)
        self._waiting[new_id] = ask
        self.version += 1
        return ask

    def answer(
        self, ask_id: str, answer: Answer, now_ms: int, *, by: str
    ) -> Outcome | Literal["gone", "answered"]:
        """Ends an ask: its outcome; `answered` when it is over already, `gone` when nothing here had this id."""
        ask = self._waiting.get(ask_id)
        if ask is None:
            return "answered" if ask_id in self._over else "gone"
        if now_ms >= ask.expires_ms:
            self.due(now_ms)
            return "answered"
        if answer.scope != "once":
            key = (answer.scope, *ask.question.key(answer.scope))
            self._standing.pop(key, None)
            if len(self._standing) >= STANDING:
                del self._standing[next(iter(self._standing))]
            until = None if answer.for_ms is None else now_ms + answer.for_ms
            self._standing[key] = (answer, until, ask_id)
        allowed = answer.action == "allow"
        verb = "allowed" if allowed else "denied"
        told = f"{verb} by {by}" + ("" if answer.scope == "once" else f" for this {answer.scope}")
        return self._end(ask, Outcome(allowed, told, ask_id), now_ms)

    def covered(self, now_ms: int) -> list[Ask]:
        """The asks that an answer for more than once is about too, over now: they waited when it came."""
        over = []
        for ask in list(self._waiting.values()):
            if ask.expires_ms > now_ms and (held := self._held(ask.question, now_ms)) is not None:
                answer, origin = held
                why = f"answered with {origin} for this {answer.scope} ({answer.action})"
                self._end(ask, Outcome(answer.action == "allow", why, ask.id), now_ms)
                over.append(ask)
        return over

    def _held(self, question: Question, now_ms: int) -> tuple[Answer, str] | None:
        """The answer that holds for a question, the narrower one first, and the ask that it was given to."""
        for scope in ("path", "host"):
            found = self._standing.get((scope, *question.key(scope)))
            if found is None:
                continue
            answer, until, origin = found
            if until is None or now_ms < until:
                return answer, origin
            del self._standing[scope, *question.key(scope)]
        return None

    def due(self, now_ms: int) -> list[Ask]:
        """The asks whose time is over, denied now."""
        over = [ask for ask in self._waiting.values() if now_ms >= ask.expires_ms]
        for ask in over:
            waited = (ask.expires_ms - ask.at_ms) / 1000
            self._end(ask, Outcome(False, f"nobody answered within {waited:g} s", ask.id), now_ms)
        return over

    def withdraw(self, ask_id: str, now_ms: int) -> Ask | None:
        """Whoever asked is gone: one question less; the ask when it was the last, over now."""
        ask = self._waiting.get(ask_id)
        if ask is None:
            return None
        ask.joined -= 1
        if ask.joined:
            return None
        self._end(ask, Outcome(False, "whoever asked is gone", ask_id), now_ms)
        return ask

    def next_due(self) -> int | None:
        """When `due` has something to say; None while nothing waits."""
        return min((ask.expires_ms for ask in self._waiting.values()), default=None)

    def forget(self) -> None:
        """The rules are others now: what was answered under the old ones is asked again."""
        self._standing.clear()

    def waiting(self) -> list[dict[str, Any]]:
        """Every ask that waits, as egress.md writes it, oldest first."""
        return [self.describe(ask) for ask in self._waiting.values()]

    def describe(self, ask: Ask) -> dict[str, Any]:
        """One ask, with what a person needs to judge it; times in milliseconds."""
        question = ask.question
        rule = question.rule.get("id") if question.rule is not None else None
        before = [
            past
            for past in self._past
            if past.host == question.host or (rule is not None and past.rule == rule)
        ]
        return {
            "id": ask.id,
            "run": self.run,
            "at": ask.at_ms,
            "expires": ask.expires_ms,
            "event": dict(question.event),
            "rule": dict(question.rule) if question.rule is not None else None,
            "program": question.program,
            "argv": list(question.argv),
            "command": list(question.command),
            "asked_before": [
                {"at": past.at_ms, "what": past.what, "outcome": past.outcome} for past in before[-TOLD:]
            ],
        }

    def _end(self, ask: Ask, outcome: Outcome, now_ms: int) -> Outcome:
        del self._waiting[ask.id]
        ask.outcome = outcome
        question = ask.question
        rule = question.rule.get("id") if question.rule is not None else None
        self._past.append(_Past(now_ms, rule, question.host, question.what, outcome.why))
        self._over.append(ask.id)
        self.version += 1
        return outcome


def parse_answer(untrusted_body: bytes) -> Answer:
    """The body of `POST /asks/ID`: `{"action": …, "scope": …, "for": "10m"}`; scope `once` unless said.

    Raises:
        AnswerError: it is not of this form.
    """
    if len(untrusted_body) > _LARGEST:
        raise AnswerError(f"an answer of {len(untrusted_body)} bytes; at most {_LARGEST}")
    try:
        untrusted = json.loads(untrusted_body)
    except (ValueError, RecursionError):
        raise AnswerError("not JSON") from None
    if not isinstance(untrusted, dict) or not untrusted.keys() <= {"action", "scope", "for"}:
        raise AnswerError("an object with action, scope and for; nothing else")
    action = next((known for known in _ACTIONS if known == untrusted.get("action")), None)
    scope = next((known for known in _SCOPES if known == untrusted.get("scope", "once")), None)
    duration = untrusted.get("for")
    if action is None:
        raise AnswerError("action: allow or deny")
    if scope is None:
        raise AnswerError("scope: once, path or host")
    if duration is None:
        return Answer(action, scope)
    try:
        return Answer(action, scope, parse_quantity(duration, "duration"))
    except (ValueError, TypeError):
        raise AnswerError("for: a duration such as 60s, 10m or 2h, or none") from None
