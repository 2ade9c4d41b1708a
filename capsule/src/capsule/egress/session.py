"""One run's egress: its plan, names, secrets and connections, apart from every other run's.

Refuses to begin with descriptors that are not the documented sockets. When the session socket ends, the listeners and
all connections end with it: nothing of a run outlives it here.

    session = Session(frame, descriptors, channel, minter)
    session.start()
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from capsule.egress import asks
from capsule.egress.asking import Asking
from capsule.egress.budget import Limits
from capsule.egress.connections import connect
from capsule.egress.dialer import Dialer, upstreams
from capsule.egress.dns import Question, answer, is_local, parse
from capsule.egress.dns_record import Tally, describe
from capsule.egress.echoes import SHORTEST
from capsule.egress.encryption import Encryption, Minter
from capsule.egress.events import http_event, response_event
from capsule.egress.filling import Vault
from capsule.egress.frames import Answer, Event, Flow, Frame, FrameError, Secret, Source, Sources
from capsule.egress.frames import Session as SessionFrame
from capsule.egress.judgement import Judge, Judgement
from capsule.egress.listener import FLOW_WAIT, Flows, Listener
from capsule.egress.mcp_call import Message
from capsule.egress.metering import Meter
from capsule.egress.pool import Pool
from capsule.egress.recording import Recorder, now
from capsule.egress.resolver import Resolver
from capsule.egress.secrets import SecretError
from capsule.egress.story import Place, Story
from capsule.egress.verdict import Verdict
from capsule.egress.watching import Watch
from capsule.errors import CapsuleError, PolicyError
from capsule.rules.deciders import EGRESS, Asked, refuse_undecided
from capsule.rules.decision import Noted
from capsule.rules.engine import RuleSet, broken, compile_rules
from capsule.rules.rule import parse_rules

if TYPE_CHECKING:
    from capsule.egress.exchange import Exchange
    from capsule.egress.ports import Dials, Supervisor

CONNECTIONS = 1000
"""Connections that a session may have at once."""
UNCLAIMED = 64
"""Questions for names that wait to be told who asks; further ones are recorded at once."""
LAST = 0.5
"""Seconds that connections may take to end when the run is over."""


class Session:
    """The state of one run.

    Args:
        frame: the run.
        descriptors: of resolver and listeners; None: questions come by `answer`, connections by `connection`.
        channel: to the log, and to the person.
        minter: of certificates.
        changed: told when something was asked or answered.
        dialer: who opens connections; None: this process.

    Attributes:
        decides: what rules may be about here.
    """

    decides: Mapping[str, Asked] = EGRESS

    def __init__(
        self,
        frame: SessionFrame,
        descriptors: list[int] | None,
        channel: Supervisor,
        minter: Minter,
        changed: Callable[[], None],
        *,
        dialer: Dials | None = None,
    ) -> None:
        plan = frame.egress
        self.run = frame.run
        self.frame = frame
        self.recorder = Recorder(channel.send, wait=channel.room)
        self.channel = channel
        budget = plan.budget
        limits = Limits(budget.requests, budget.bytes, budget.tokens, budget.microdollars)
        self.meter = Meter(self.recorder, limits)
        self.asking = Asking(
            frame.run, frame.command, self.recorder, channel.send if frame.interactive else _nobody, changed
        )
        self.flows = Flows()
        self.pool = Pool()
        self.tally = Tally()
        self.own: frozenset[str] = frozenset()
        """Names of who asks, which are its own loopback's; a run's stand in its own `/etc/hosts`."""
        self._unclaimed: deque[tuple[dict[str, Any], tuple[str, int], asyncio.TimerHandle]] = deque()
        self.problems: list[str] = []
        self._watch: Watch | None = None
        self.judge = Judge(plan, self._compile(frame.sources))
        self.dialer: Dials = dialer or Dialer(upstreams=upstreams(plan), proxy=plan.proxy)
        self.authorities = _authorities(frame)
        self.encryption = Encryption(minter, authorities=self.authorities)
        self.vault: Vault | None = None
        if plan.secrets:
            try:
                self.vault = Vault(
                    plan.secrets,
                    frame.secrets,
                    lambda name: channel.send({"type": "need_secret", "name": name}),
                )
            except SecretError as error:
                raise FrameError(str(error)) from None
            self.recorder.mask = self.vault.secrets.mask
        elif any(entry.credential for entry in plan.hosts):
            raise FrameError("a host entry is bound to a secret, and the plan has none")
        self.drivers: set[Exchange] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True
        self._inside: list[Resolver | Listener] = []
        if descriptors is not None:
            sockets = _sockets(descriptors, frame.ports)
            self._inside.append(Resolver(sockets[0], sockets[1], self.answer))
            self._inside += [Listener(sock, self.connection) for sock in sockets[2:]]

    def start(self) -> dict[str, Any]:
        """Opens for business; what `ready` says."""
        for one in self._inside:
            one.start()
        return {"rules": len(self.judge.rules), "problems": [*self.problems, *self._short()]}

    def _short(self) -> list[str]:
        return [
            f"secret {name}: its value has fewer than {SHORTEST} bytes, so it is not looked for in what hosts answer"
            for name, secret in sorted(self.frame.secrets.items())
            if len(secret.value.encode()) < SHORTEST
        ]

    def _compile(self, sources: tuple[Source, ...]) -> RuleSet:
        """The rules of the policy; a file that does not compile denies everything, and says why."""
        self.problems = [source.problem for source in sources if source.problem is not None]
        if self.problems:
            return broken("; ".join(self.problems))  # what is detected, is as before
        texts = {source.path: source.text for source in sources}
        files = []
        for named in self.frame.egress.rules:
            path = named["path"] if isinstance(named, dict) else str(named)
            try:
                if path not in texts:
                    raise FrameError(f"{path} was not read")
                files.append(parse_rules(texts[path], path))
            except (PolicyError, FrameError) as error:
                self.problems.append(error.message)
        self.recorder.observers.clear()
        if self._watch is not None:
            self._watch.conclude()
        if self.frame.egress.detect:
            loop = asyncio.get_running_loop()
            self._watch = Watch(
                self.frame.egress.detect, sources, found=self._finding, clock=loop.time, later=loop.call_later
            )
            self.problems += self._watch.problems
            self.recorder.observers.append(self._watch.see)
        try:
            return (
                broken("; ".join(self.problems))
                if self.problems
                else compile_rules(refuse_undecided(files, self.decides))
            )
        except CapsuleError as error:
            self.problems.append(error.message)
            return broken(error.message)

    def frame_came(self, frame: Frame) -> None:
        """What the supervisor says during the run."""
        if isinstance(frame, Flow):
            self.flows.add(frame)
        elif isinstance(frame, Answer):
            told = asks.Answer("allow" if frame.allow else "deny", frame.scope, frame.for_ms)
            self.asking.answer(frame.id, told, by="terminal")
        elif isinstance(frame, Secret):
            if self.vault is None:
                raise FrameError(f"nobody asked for secret {frame.name}")
            try:
                self.vault.renew(frame.name, frame.value, frame.expires)
            except SecretError as error:
                raise FrameError(str(error)) from None
        elif isinstance(frame, Event):
            if self._watch is None:
                raise FrameError("an entry of the run, and nothing is detected")
            self._watch.entry(frame.entry)
        elif isinstance(frame, Sources):
            self.judge.rules = self._compile(frame.sources)
            self.asking.register.forget()
            self.recorder.write("egress.rules", {"rules": len(self.judge.rules), "problems": self.problems})

    def close(self) -> None:
        """Ends everything of the run."""
        if not self._open:
            return
        self._open = False
        while self._unclaimed:
            self._claim()
        for counted in self.tally.close():
            self._record_name(counted)
        for one in self._inside:
            one.close()
        for task in list(self._tasks):
            task.cancel()
        for exchange in list(self.drivers):
            exchange.driver.abort("the run is over")

    async def over(self) -> None:
        """After `close`: what was broken off is recorded, and what was seen last is looked at."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST)
        if self._watch is not None:
            self._watch.conclude()

    def describe(self) -> dict[str, Any]:
        """For `GET /sessions`."""
        waiting = len(self.asking.register.waiting())
        return {
            "run": self.run,
            "command": list(self.frame.command),
            "connections": len(self._tasks),
            "asks": waiting,
        }

    def tick(self, now: float) -> None:
        """Once a second: what is late ends, what was counted is recorded."""
        self.asking.due()
        for exchange in list(self.drivers):
            exchange.tick(now)
        for counted in self.tally.due(time.monotonic_ns() // 1000):
            self._record_name(counted)

    # Names

    def answer(self, untrusted_packet: bytes, transport: str, source: tuple[str, int]) -> bytes | None:
        """The answer to a question; every question is recorded with its program, equal ones of a second counted."""
        question = parse(untrusted_packet, "tcp" if transport == "tcp" else "udp")
        if not isinstance(question, Question):
            return question.wire
        verdict = self._decide_name(question.name, question.type_name, question.transport)
        reply = answer(question, self.pool, allowed=verdict.allowed, own=question.name in self.own)
        section = describe(question, reply)
        asker = self.flows.asker(source)
        if asker is None and len(self._unclaimed) < UNCLAIMED and self._inside:
            # The notice may come a moment after the question; the answer need not wait for it.
            later = asyncio.get_running_loop().call_later(FLOW_WAIT, self._claim)
            self._unclaimed.append((section, source, later))
        else:
            self._count_name(section, asker)
        return reply.wire

    def _claim(self) -> None:
        """The question that has waited longest is recorded, whoever asked it."""
        section, source, later = self._unclaimed.popleft()
        later.cancel()
        self._count_name(section, self.flows.asker(source))

    def _count_name(self, section: dict[str, Any], asker: Flow | None) -> None:
        if asker is not None:
            section["program"] = asker
        for counted in self.tally.add(section, time.monotonic_ns() // 1000):
            self._record_name(counted)

    def _finding(self, found: dict[str, Any]) -> None:
        self.recorder.write("egress.finding", found)

    def _decide_name(self, name: str, qtype: str, transport: str) -> Verdict:
        if is_local(name) or name in self.own:
            return Verdict("allow", "default", "the sandbox's own loopback")
        return self.judge.name(name, qtype, transport)

    def _record_name(self, section: dict[str, Any]) -> None:
        verdict = self._decide_name(section["name"], section["qtype"], section["transport"])
        asker = section.pop("program", None)
        program = {} if asker is None else {"program": _described(asker)}
        self.recorder.write("egress.dns", {**program, "dns": section, "decision": verdict.entry()})

    def name_of(self, address: str) -> str | None:
        """The name that an address inside stands for."""
        return self.pool.name(address)

    def inside(self, name: str) -> str:
        """The address inside that stands for a name.

        Raises:
            PoolFullError: the run has used all the names it may.
        """
        return ".".join(map(str, self.pool.address(name)))

    # Connections

    def connection(
        self,
        sock: socket.socket,
        source: tuple[str, int],
        target: tuple[str, int],
        *,
        messages: bool = True,
    ) -> None:
        """A program connected; without `messages` whoever made it has told and decided those of MCP in it."""
        if len(self._tasks) >= CONNECTIONS or not self._open:
            sock.close()
            self.recorder.write(
                "egress.tcp",
                {
                    "tcp": {"address": target[0], "port": target[1], "source": f"{source[0]}:{source[1]}"},
                    "decision": Verdict("block", "protocol", f"{CONNECTIONS} connections are open").entry(),
                },
            )
            return
        task = asyncio.get_running_loop().create_task(connect(self, sock, source, target, messages=messages))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(
            lambda _: sock.close()
        )  # one that is cancelled before it begins closes nothing

    def refused_connection(self, place: Place, verdict: Verdict, duration: float = 0.0) -> None:
        """Records what was refused before there was a request."""
        self.recorder.write(
            "egress.tcp",
            {
                **self._program(place),
                "tcp": _tcp(place, duration),
                "decision": verdict.entry(),
            },
        )

    def failed_connection(self, place: Place, error: str) -> None:
        """Records what could not be carried."""
        self.recorder.write(
            "egress.tcp",
            {
                **self._program(place),
                "tcp": {**_tcp(place, 0.0), "error": error},
                "decision": Verdict("allow", "grant", "").entry(),
            },
        )

    def passed_connection(self, place: Place, verdict: Verdict, duration: float, **known: Any) -> None:
        """Records a connection that was passed through; what is None is left out."""
        tcp = {**_tcp(place, duration), **{name: value for name, value in known.items() if value is not None}}
        self.recorder.write("egress.tcp", {**self._program(place), "tcp": tcp, "decision": verdict.entry()})

    # Requests

    def begin_http(self, flow: Any, place: Place) -> Story:
        """A request came: its event at the head."""
        identity = self.recorder.next_id()
        event = {
            "event": {"id": identity, "type": "http", "time": now()},
            "run": self.run,
            "http": {"id": identity, **http_event(flow.request, place)},
        }
        return Story(identity, time.monotonic(), event)

    def tcp_event(self, place: Place) -> dict[str, Any]:
        """The event of a connection that is not looked into."""
        event = {"event": {"id": "", "type": "tcp", "time": now()}, "run": self.run, "tcp": _tcp(place, 0.0)}
        return {**event, **self._program(place)}

    def note(self, findings: tuple[Noted, ...], story: Story | Message | None) -> None:
        """Records that rules with a level held."""
        for noted in findings:
            place = noted.rule.record()
            rule = {"id": place["id"], "level": noted.level, "file": place["file"], "line": place["line"]}
            if noted.reason:
                rule["title"] = noted.reason
            events = [story.id] if story is not None else []
            self.recorder.write("egress.finding", {"rule": rule, "events": events, "count": 1})

    async def ask(self, event: dict[str, Any], judged: Judgement) -> Verdict:
        """Asks a person, about each rule that asks."""
        verdict = await self.asking.ask(event, judged)
        for further in judged.further:
            if verdict.allowed:
                verdict = await self.asking.ask(event, further)
        return verdict

    def name_program(self, event: dict[str, Any], place: Place) -> None:
        """Adds who made the connection, when it is known."""
        event.update(self._program(place))

    def record_http(self, flow: Any, story: Story, error: str | None) -> None:
        """Records an exchange that is over, once."""
        if story.done:
            return
        story.done = True
        http = story.event["http"]
        http["id"] = story.id
        moment = time.monotonic()
        http["duration_us"] = int((moment - story.started) * 1e6)
        if story.first_byte is not None:
            http["first_byte_us"] = int((story.first_byte - story.started) * 1e6)
        if story.address is not None:
            http["address"] = story.address
        http.pop("body", None)
        if story.sent:
            http["body"] = {"size": story.sent}
        if error is not None:
            http["error"] = error
        response = flow.response if flow is not None else None
        if response is not None:
            http["status"] = response.status_code
            if not story.refused:
                http["response"] = response_event(response, story.received)
        http.update(story.notes)
        fields = {**story.event, "decision": story.verdict.entry()}
        del fields["run"]
        self.recorder.write("egress.http", fields, event_id=story.id)
        if story.frames is not None:
            self._record_frames(story, fields, error)
        if story.mcp is not None:
            story.mcp.finish(story.verdict, refused=story.refused, error=error)
        # What was refused when it was answered had gone out, and is paid for.
        kept = story.unreached or (story.refused and story.first_byte is None)
        cut = story.refused or error is not None
        if story.model is not None:
            program = {"program": fields["program"]} if "program" in fields else {}
            told = {**program, "decision": fields["decision"]}
            self.meter.finish(story.model, story.id, told, refused=kept, cut=cut)
        self.meter.settle(story.taken, story.model, story.sent, sent=not kept, cut=cut)

    def _record_frames(self, story: Story, fields: dict[str, Any], error: str | None) -> None:
        assert story.frames is not None
        http = story.event["http"]
        known = {"http_id": story.id, "host": http["host"], **story.frames.record()}
        known["duration_us"] = http["duration_us"]
        if error is not None:
            known["error"] = error
        program = {"program": fields["program"]} if "program" in fields else {}
        self.recorder.write(
            "egress.websocket", {**program, "websocket": known, "decision": fields["decision"]}
        )

    def _program(self, place: Place) -> dict[str, Any]:
        future = place.program
        if not future.done() or future.cancelled():
            return {}
        return {"program": _described(future.result())}


def _described(flow: Flow) -> dict[str, Any]:
    """The `program` of an event."""
    return {
        "path": flow.program,
        "pid": flow.pid,
        "argv": list(flow.argv),
        "name": flow.program.rpartition("/")[2],
    }


def _nobody(_: dict[str, Any]) -> None:
    """There is no terminal to tell."""


def _tcp(place: Place, duration: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "host": place.name,
        "port": place.port,
        "source": f"{place.source[0]}:{place.source[1]}",
        "tls": place.hello is not None,
        "duration_us": int(duration * 1e6),
    }
    if place.name == place.target[0]:
        found["address"] = place.name
    if place.via:
        found["via"] = place.via
    if place.hello is not None and place.hello.name is not None:
        found["sni"] = place.hello.name
        if place.hello.protocols:
            found["alpn"] = [name.decode("latin-1") for name in place.hello.protocols[:8]]
    return found


def _sockets(descriptors: list[int], ports: tuple[int, ...]) -> list[socket.socket]:
    """The sockets of a session, each what it is said to be.

    Raises:
        FrameError: too few, too many, or of another kind; all are closed.
    """
    found: list[socket.socket] = []
    left = list(descriptors)
    try:
        if len(descriptors) != 2 + len(ports):
            what = f"{len(descriptors)} descriptors for {len(ports)} ports"
            raise FrameError(f"{what}; UDP 53 and TCP 53 come first")
        for index, port in enumerate((53, 53, *ports)):
            try:
                sock = socket.socket(fileno=left[0])
            except OSError as error:
                raise FrameError(f"descriptor {index} is not a socket: {error.strerror}") from None
            del left[0]
            found.append(sock)
            kind = socket.SOCK_DGRAM if index == 0 else socket.SOCK_STREAM
            if sock.family != socket.AF_INET or sock.type != kind or sock.getsockname()[1] != port:
                raise FrameError(f"descriptor {index} is not the IPv4 socket of port {port}")
    except FrameError:
        for sock in found:
            sock.close()
        raise
    finally:
        for number in left:
            os.close(number)
    return found


def _authorities(frame: SessionFrame) -> list[str]:
    """The texts of the authorities that the plan names; the supervisor read them."""
    texts = {source.path: source.text for source in frame.sources}
    found = []
    for grant in frame.egress.authorities:
        path = grant["path"] if isinstance(grant, dict) else str(grant)
        if path not in texts:
            raise FrameError(f"the authority {path} is not among the sources")
        found.append(texts[path])
    return found
