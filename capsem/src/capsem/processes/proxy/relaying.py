"""MCP between a program of the guest and a server: line by line, judged and recorded before it goes on.

A stream's first line names the server, which the monitor starts on the host or `reaching` speaks to over HTTP; the rest
is JSON-RPC, read once (`capsem.wire.jsonrpc`), told and decided as MCP over HTTP is (`capsule.egress.mcp_call`), in
both directions. While a person is asked about one message the others go on. Refuses servers that are not declared,
messages that are none, answers that nobody waits for, tools that changed (`listing`); each has an answer that says why,
or an entry.

    await Relay(session, monitor, servers, Reaching(session, authority)).carry(stream)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from capsem.errors import CapsemError, MachineError
from capsem.host.allowance import Allowance
from capsem.host.jobs import GuestStream
from capsem.processes.proxy.guest import GuestSession, reported
from capsem.processes.proxy.lines import Lines, TooLongError
from capsem.processes.proxy.listing import NAME as TOOL_NAME
from capsem.processes.proxy.listing import Tools, is_tool
from capsem.processes.proxy.monitor import MonitorLink
from capsem.processes.proxy.reaching import Reaching
from capsem.vm.mcp import NAME
from capsem.vm.remote import parse_address
from capsem.wire.jsonrpc import LINE, Identity, Spoken, SpokenError, failure, parse
from capsem.wire.proxy import Server
from capsule.egress.judgement import Judgement
from capsule.egress.mcp_call import ERROR, Message, refusal
from capsule.egress.mcp_message import McpExchange, ambiguity
from capsule.egress.recording import now
from capsule.egress.verdict import Verdict

PENDING = 64
"""Requests of one side that wait for their answer."""
FAULTS = 16
"""Lines of one side that are no messages, before the stream ends."""
RATE, BURST = 100.0, 500.0
"""Messages a second of the whole machine; more wait."""
PATIENCE = 10.0
"""Seconds for the first line."""
LINGER = 30.0
"""Seconds for answers, of the server and of a person, after the program has said all that it will."""
GIVEN_UP = 4096
"""Requests that were taken back and never answered, before the stream ends."""
_TAKEN_BACK = "taken back"
Write = Callable[[bytes], Awaitable[None]]


class Relay:
    """All MCP of one guest."""

    def __init__(
        self, session: GuestSession, monitor: MonitorLink, servers: Sequence[Server], reaching: Reaching
    ) -> None:
        self.session = session
        self.monitor = monitor
        self._reaching = reaching
        self._servers = {server.name: server for server in servers}
        self.tools = {server.name: Tools(_changed(server)) for server in servers}
        self._allowance = Allowance(RATE, BURST, time.monotonic())

    async def carry(self, stream: GuestStream) -> None:
        """One stream, until one of its sides has ended."""
        stream.accept()
        lines = Lines(stream.incoming.read)
        async with asyncio.timeout(PATIENCE):
            named = await lines.next()
        name = (named or b"").decode("latin-1")
        if NAME.fullmatch(name) is None:
            stream.reset()
            return
        server = self._servers.get(name)
        talk = _Talk(self, stream, name, server)
        if server is None:
            known = ", ".join(sorted(self._servers)) or "none"
            allow = f"declare it in the file of --mcp; declared: {known}"
            verdict = Verdict("block", "grant", f"no MCP server {name} is declared", allow=allow)
            await talk.refuse_all(lines, verdict)
            return
        try:
            sock, close = await self._begun(server, stream)
        except MachineError as error:
            await talk.refuse_all(
                lines, Verdict("block", "protocol", error.message, allow=error.next_step or "")
            )
            return
        try:
            await talk.carry(lines, sock)
        finally:
            await close()

    async def _begun(
        self, server: Server, stream: GuestStream
    ) -> tuple[socket.socket, Callable[[], Awaitable[None]]]:
        if server.url:
            return self._reaching.begin(server, stream.opened)
        number, sock = await self.monitor.serve(server.name)

        async def close() -> None:
            sock.close()
            self.monitor.over(number)

        return sock, close

    async def pace(self) -> None:
        """Waits while the machine says more than it may."""
        if owed := self._allowance.owe(time.monotonic()):
            await asyncio.sleep(owed)
        await self.session.recorder.room()


def _changed(server: Server) -> Verdict | None:
    """What a tool that changed is refused with, where it is."""
    if server.changes == "pass":
        return None
    return Verdict(
        "block", "grant", "", rule=_granting(server),
        allow=f"see what {server.name} says of it now; `changes: pass` under it lets it through",
    )  # fmt: skip


def declared(servers: Sequence[Server]) -> dict[str, tuple[str, ...]]:
    """By host, the names under which servers there are declared."""
    found: dict[str, tuple[str, ...]] = {}
    for server in servers:
        if server.url:
            host = parse_address(server.url).host
            found[host] = (*found.get(host, ()), server.name)
    return found


def _granting(server: Server) -> dict[str, Any]:
    return {"id": f"mcp.servers {server.name}", "file": server.file, "line": server.line}


class _Way:
    """What one side says to the other; `write` takes it there."""

    def __init__(self, server: str, direction: str, write: Write) -> None:
        self.direction = direction
        self.exchange = McpExchange(server, certain=True)
        self.waiting: dict[str, tuple[Identity, Message]] = {}
        self.asking: dict[str, asyncio.Task[None]] = {}
        """What a person is asked about, by id; a notification's is its event's."""
        self.taken_back: dict[str, None] = {}
        """Which of those that wait their side has taken back; an answer may come all the same."""
        self.given_up: dict[str, Identity] = {}
        """What was taken back and waits no more: no other request has its id until its answer has come."""
        self.tasks: set[asyncio.Task[None]] = set()
        """The same, until what was decided has gone on."""
        self.write = write
        self.faults = 0
        self.cut = ""


class _Talk:
    """One program and one server."""

    def __init__(self, relay: Relay, stream: GuestStream, name: str, server: Server | None) -> None:
        self._relay = relay
        self._session = relay.session
        self._stream = stream
        self._name = name
        place = {"id": f"mcp.servers {name}"} if server is None else _granting(server)
        self._granted = Verdict("allow", "grant", "", rule=place)
        self._tools = relay.tools.get(name) or Tools(None)
        self._host = parse_address(server.url).host if server is not None and server.url else None
        self._program = reported(stream.opened.program, stream.opened.pid)
        self._out = _Way(name, "out", _nowhere)
        self._in = _Way(name, "in", _whole(stream.outgoing.write))
        self._lost: list[bytes] = []
        """Errors for requests that were never decided."""

    async def refuse_all(self, lines: Lines, verdict: Verdict) -> None:
        """Where there is no server: answer every request with the reason, until the program leaves."""
        await self._hear(lines, self._out, self._in, verdict)
        self._stream.outgoing.end()
        await self._leave(lines)

    async def carry(self, lines: Lines, sock: socket.socket) -> None:
        """Both ways, until the server has ended, or the program and then the server's last answer."""
        loop = asyncio.get_running_loop()
        self._out.write = _whole(lambda line: loop.sock_sendall(sock, line))
        answers = Lines(lambda: loop.sock_recv(sock, 1 << 16))
        asking = asyncio.create_task(self._hear(lines, self._out, self._in))
        answering = asyncio.create_task(self._hear(answers, self._in, self._out))
        try:
            await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and asking.exception() is None and not self._out.cut:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
                await asyncio.wait({answering}, timeout=LINGER)
        finally:
            ended = answering.done()
            tasks = [asking, answering, *self._out.tasks, *self._in.tasks]
            for task in tasks:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            cut = self._in.cut or self._out.cut
            await self._give_up(cut or f"the {'server' if ended else 'program'} has ended")
        for error in found:
            expected = ConnectionError | OSError | CapsemError | asyncio.CancelledError
            if isinstance(error, BaseException) and not isinstance(error, expected):
                raise error
        if not self._stream.over:
            self._stream.outgoing.end()
            await self._leave(lines)

    async def _leave(self, lines: Lines) -> None:
        """What was said last is read by the program before the stream is gone: it ends its side then."""
        try:
            async with asyncio.timeout(PATIENCE):
                while await lines.next() is not None:
                    pass
        except (TimeoutError, TooLongError):
            self._stream.reset()

    async def _give_up(self, why: str) -> None:
        """What waits for an answer gets none; a program is told so."""
        lost, self._lost = self._lost, []
        for way in (self._out, self._in):
            for identity, message in way.waiting.values():
                message.section["error"] = f"no answer: {why}"
                self._record(message)
                if way is self._out:
                    lost.append(failure(ERROR, f"capsule: no answer: {why} ({self._name})", identity))
            way.waiting.clear()
            way.taken_back.clear()
        with contextlib.suppress(ConnectionError, CapsemError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for line in lost:
                    await self._in.write(line)

    async def _hear(self, lines: Lines, way: _Way, back: _Way, refused: Verdict | None = None) -> None:
        """All lines of one side; `refused`: what everything is answered with."""
        while not way.cut:
            try:
                line = await lines.next()
            except TooLongError:
                way.cut = f"a line of more than {LINE} bytes"
                await self._fault(way, back, SpokenError(way.cut))
                return
            if line is None:
                await self._settle(way)
                return
            await self._relay.pace()
            try:
                spoken = parse(line)
                if spoken.kind == "answer":
                    await self._answered(spoken, asked=back, way=way)
                else:
                    await self._asked(spoken, way, back, refused)
            except SpokenError as error:
                await self._fault(way, back, error)

    async def _asked(self, spoken: Spoken, way: _Way, back: _Way, refused: Verdict | None) -> None:
        if way is self._out and (why := ambiguity(spoken.line, certain=True)) is not None:
            raise SpokenError(why, identity=spoken.id)
        key = None if spoken.id is None else str(spoken.id)
        message = self._told(way, spoken)
        waiting = way.waiting.keys() | way.asking.keys()
        if key is not None and (key in waiting or len(waiting) - len(way.taken_back) >= PENDING):
            held = "another request with its id waits" if key in waiting else f"{PENDING} requests wait"
            refused = refused or Verdict("block", "protocol", held)
        if key in way.given_up:
            held = "another request with its id was taken back, and its answer may come still"
            refused = refused or Verdict("block", "protocol", held, allow="take another id")
        if way is self._out and spoken.method == "tools/call":
            refused = refused or self._tools.refused(message.section["tool"])
        if refused is not None:
            await self._refuse(message, spoken, refused, back)
            return
        judged = self._judged(message)
        self._session.note(judged.findings, message)
        if judged.asks is not None:
            key = message.id if key is None else key
            task = asyncio.create_task(self._ask_first(judged, message, spoken, way, back))
            way.asking[key] = task
            way.tasks.add(task)
            task.add_done_callback(lambda over: _forget(way, over))
            return
        if spoken.taken_back is not None:
            self._cancel(str(spoken.taken_back), way)
        await self._pass_or_refuse(message, spoken, judged.verdict, way, back)

    def _judged(self, message: Message) -> Judgement:
        """What the rules say of a message; of a server at an address, also those that know it by its host."""
        names = () if self._host is None else (self._host,)
        return self._session.judge.message_to(names, self._event(message), self._granted, None)

    def _event(self, message: Message) -> dict[str, Any]:
        return {**message.event(), "run": self._session.run, **self._program}

    async def _ask_first(
        self, judged: Judgement, message: Message, spoken: Spoken, way: _Way, back: _Way
    ) -> None:
        """A person's answer decides; what else is said goes on meanwhile."""
        key = message.id if spoken.id is None else str(spoken.id)
        try:
            verdict = await self._session.ask(self._event(message), judged)
        except asyncio.CancelledError as error:
            # It went nowhere. Who took it back waits for no answer; who has one to wait for still is told.
            why = "it was taken back" if _TAKEN_BACK in error.args else "its stream has ended"
            message.verdict = Verdict("block", "ask", why, rule=judged.verdict.rule)
            self._record(message)
            if _TAKEN_BACK not in error.args and way is self._out and spoken.id is not None:
                self._lost.append(failure(ERROR, f"capsule: nobody answered in time: {why}", spoken.id))
            raise
        finally:
            del way.asking[key]
        if verdict.allowed and way is self._out and spoken.method == "tools/call":
            verdict = self._tools.refused(message.section["tool"]) or verdict  # it may have changed meanwhile
        # The side that is gone has its own end.
        with contextlib.suppress(ConnectionError, OSError, CapsemError):
            await self._pass_or_refuse(message, spoken, verdict, way, back)

    async def _settle(self, way: _Way) -> None:
        """One side has said all: what a person is asked about of it has some time still."""
        if way.tasks:
            await asyncio.wait(way.tasks, timeout=LINGER)
        for task in list(way.tasks):
            task.cancel()
        await asyncio.gather(*way.tasks, return_exceptions=True)

    def _cancel(self, key: str, way: _Way) -> None:
        """A request that its side takes back: nobody is asked about it any more, and it keeps no other one waiting."""
        if (asking := way.asking.get(key)) is not None:
            asking.cancel(_TAKEN_BACK)
        if key not in way.waiting:
            return
        way.taken_back[key] = None
        if len(way.taken_back) > PENDING:
            oldest = next(iter(way.taken_back))
            del way.taken_back[oldest]
            identity, message = way.waiting.pop(oldest)
            message.section["error"] = "no answer: it was taken back"
            self._record(message)
            way.exchange.forget(identity)
            way.given_up[oldest] = identity
            if len(way.given_up) > GIVEN_UP:
                way.cut = f"more than {GIVEN_UP} requests were taken back and never answered"

    async def _pass_or_refuse(
        self, message: Message, spoken: Spoken, verdict: Verdict, way: _Way, back: _Way
    ) -> None:
        if not verdict.allowed:
            await self._refuse(message, spoken, verdict, back)
            return
        message.verdict = verdict
        if spoken.id is not None:
            way.exchange.request(spoken.line)
            way.waiting[str(spoken.id)] = spoken.id, message
        else:
            await self._recorded(message)
        await way.write(spoken.line)

    async def _answered(self, spoken: Spoken, *, asked: _Way, way: _Way) -> None:
        """An answer to what the other side asked; one to nothing goes nowhere."""
        key = str(spoken.id)
        found = asked.waiting.get(key)
        late = asked.given_up.get(key)
        if late is not None and late == spoken.id and type(late) is type(spoken.id):
            del asked.given_up[key]  # on its way when it was taken back, and recorded then
            return
        if found is None or found[0] != spoken.id or type(found[0]) is not type(spoken.id):
            raise SpokenError("an answer to nothing that was asked")
        del asked.waiting[key]
        asked.taken_back.pop(key, None)
        message = found[1]
        for told in asked.exchange.answer(spoken.line):
            message.section.update((name, told[name]) for name in ("error", "result_size") if name in told)
        message.section["duration_us"] = int((time.monotonic() - message.started) * 1e6)
        line = spoken.line
        if asked is self._out and message.section["method"] == "tools/list":
            line = self._shown(spoken, message)
        # What is answered is on the log before it is.
        await self._recorded(message)
        await way.write(line)

    def _shown(self, spoken: Spoken, message: Message) -> bytes:
        """An answer to `tools/list`, without the tools that are not to be called."""
        try:
            shown = self._tools.listed(spoken.line, self._never)
        except ValueError as error:
            message.section["error"] = why = f"a list of tools that cannot be read: {error}"[:200]
            return failure(ERROR, f"capsule: {self._name} answers with {why}", spoken.id)
        if shown is None:
            return spoken.line
        message.section.update(shown.section())
        return shown.line

    def _never(self, tool: str) -> Verdict | None:
        """Why no program of the machine can call a tool, whatever it says to it."""
        for server in filter(None, (self._name, self._host)):
            called = {"server": server, "method": "tools/call", "tool": tool, "direction": "out"}
            event = {"event": {"type": "mcp"}, "run": self._session.run, "mcp": called}
            if (verdict := self._session.judge.never(event)) is not None:
                return verdict
        return None

    def _told(self, way: _Way, spoken: Spoken) -> Message:
        """The event of a request or notification; nothing waits for its answer yet."""
        [section] = McpExchange(self._name, certain=True).request(spoken.line)
        section["direction"] = way.direction
        if way is self._out and spoken.method == "tools/call":
            if not is_tool(spoken.params.get("name")):
                why = f"a tool's name that is not 1 to {TOOL_NAME} characters that can be printed"
                raise SpokenError(why, identity=spoken.id)
            section.update(self._tools.told(section["tool"]))
        return Message(self._session.recorder.next_id(), now(), time.monotonic(), section)

    async def _refuse(self, message: Message, spoken: Spoken, verdict: Verdict, back: _Way) -> None:
        message.verdict = verdict
        await self._recorded(message)
        if spoken.id is None:
            return
        if back is self._out:  # a server is told neither whose rule it is nor where it stands
            await back.write(failure(ERROR, "capsule: it is not let through here", spoken.id))
        elif (answer := refusal(verdict, message.section, [spoken.id])) is not None:
            await back.write(answer)

    async def _fault(self, way: _Way, back: _Way, error: SpokenError) -> None:
        """A line that is no message; after too many of them nothing more is heard."""
        way.faults += 1
        section = {"server": self._name, "direction": way.direction, "method": "", "error": error.reason}
        message = Message(self._session.recorder.next_id(), now(), time.monotonic(), section)
        message.verdict = Verdict("block", "protocol", error.reason)
        await self._recorded(message)
        if way.faults >= FAULTS:
            way.cut = way.cut or f"{FAULTS} lines that are no messages"
        if way is self._out:  # a server that prints to the wrong place is not to be answered
            await back.write(failure(error.code, f"capsule: {error.reason}", error.id))

    async def _recorded(self, message: Message) -> None:
        self._record(message)
        await self._relay.monitor.noted()

    def _record(self, message: Message) -> None:
        section = {name: value for name, value in message.section.items() if name != "arguments"}
        verdict = message.verdict or self._granted
        fields: dict[str, Any] = {"event": message.event()["event"], **self._program, "mcp": section}
        fields["decision"] = verdict.entry()
        self._session.recorder.write("egress.mcp", fields, event_id=message.id)


def _forget(way: _Way, task: asyncio.Task[None]) -> None:
    """A task that is over; one that failed is kept, and ends its stream."""
    if task.cancelled() or task.exception() is None:
        way.tasks.discard(task)


async def _nowhere(line: bytes) -> None:
    del line


def _whole(write: Write) -> Write:
    """Line by line: one that waits for room is not cut by another."""
    one = asyncio.Lock()

    async def written(line: bytes) -> None:
        async with one:
            await write(line)

    return written
