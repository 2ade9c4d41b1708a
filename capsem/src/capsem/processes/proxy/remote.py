"""One program's conversation with an MCP server that is reached over HTTP: lines here, requests of HTTP there.

What `relaying` has judged comes as lines from one end of a socket pair, and what the server says goes back as lines to
be judged there: to the relay this is a server like one that the monitor started. Each message is a POST over the
session's egress (`Caller`), which decides, records, dials and puts secrets in; answers are JSON or events; events that
the server sends by itself come on a GET. Refuses redirects, other types, bodies and streams beyond the bounds below,
and to go on in a session that the server knows no more: its program begins a new one.

    remote = Remote(caller, parse_address(url), fields, sock, transport="http")
    running = asyncio.create_task(remote.run())
    await remote.close(running)              # takes leave of the server's session
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from capsem.processes.proxy.guest import RefusedError
from capsem.processes.proxy.lines import Lines
from capsem.vm.remote import Address
from capsem.wire.jsonrpc import LINE, Identity, Spoken, SpokenError, failure, parse
from capsem.wire.streamable import AnswerError, Speaking, begun, content, printable, resolved, told
from capsule.egress.caller import Caller, CallError, Reply
from capsule.egress.mcp_call import ERROR, refusal
from capsule.egress.model.sse import Event, EventStream
from capsule.egress.verdict import Verdict

AT_ONCE = 16
"""Requests of one conversation that wait for their answer; more wait to be sent."""
TAKEN = 60.0
"""Seconds for the answer to `initialize`, and for what has no answer to be taken."""
ANSWER = 3600.0
"""Seconds for an answer; egress ends a connection on which nothing moves for a sixth of them."""
EVENT = LINE + 1024
"""Bytes of one event, its field names and ids included."""
STREAM = 64 << 20
"""Bytes of one answer's events."""
LAST = 0.5
"""Seconds for a stream to end once its answer has come."""
AGAIN = 8
"""Times that a stream is taken up again without anything new in it."""
SOONEST, SLOWEST = 1.0, 30.0
"""Seconds before that."""
LEAVE = 5.0
"""Seconds to take leave of a session."""
ENDPOINT = 30.0
"""Seconds for a server of the older transport to say where it wants its messages."""
_BODY = 8192
_NOT_THERE = frozenset((*range(200, 300), 400, 404, 405, 406, 415))
_OTHER = "does it speak this transport? `transport: http` is the newer one"
_SEE = "capsem timeline MACHINE shows what was asked of it"


class Remote:
    """See the module.

    Args:
        caller: to the server's host.
        address: of the server.
        fields: headers of each request, with placeholders for secrets.
        sock: where lines come from, and go.
        transport: `http`, or `sse`, that of 2024-11-05.
        place: the server's name, and where it is declared.
    """

    def __init__(
        self,
        caller: Caller,
        address: Address,
        fields: Mapping[str, str],
        sock: socket.socket,
        transport: Literal["http", "sse"],
        *,
        place: str,
    ) -> None:
        self._place = place
        self._caller = caller
        self._address = address
        self._fields = dict(fields)
        self._sock = sock
        self._old = transport == "sse"
        self._posts = address
        self._speaking = Speaking()
        self._first: Identity | None = None
        """The id of `initialize`."""
        self._begun = False
        self._room = asyncio.Semaphore(AT_ONCE)
        self._one = asyncio.Lock()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._awaited: dict[str, Spoken] = {}
        """Of the older transport: requests whose answer is to come as an event."""
        self._fault: BaseException | None = None
        self._listening: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until the program has said all and has its answers, or the conversation cannot go on."""
        over = asyncio.create_task(self._over.wait())
        hearing = asyncio.create_task(self._hear())
        try:
            await asyncio.wait({over, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                hearing.result()
                while self._asking and not over.done():
                    waiting = {over, *self._asking.values()}
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [over, hearing, *self._asking.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    async def close(self, running: asyncio.Task[None]) -> None:
        """End it, and the server's session with it."""
        for task in (running, self._listening):
            if task is not None:
                task.cancel()
        listening = [] if self._listening is None else [self._listening]
        try:
            found = await asyncio.gather(running, *listening, return_exceptions=True)
            if self._speaking.session is not None and not self._over.is_set():
                await self._leave()
        finally:
            self._caller.close()
            self._sock.close()
        for error in (*found, self._fault):
            expected = OSError | asyncio.CancelledError
            if isinstance(error, BaseException) and not isinstance(error, expected):
                raise error

    async def _leave(self) -> None:
        fields = {**self._fields, **self._speaking.fields(posts=False)}
        with contextlib.suppress(CallError, RefusedError, TimeoutError):
            async with asyncio.timeout(LEAVE), self._caller.asked("DELETE", self._address.target, fields):
                pass

    # What the program says.

    async def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        lines = Lines(lambda: loop.sock_recv(self._sock, 1 << 16))
        problem = await self._attend() if self._old else None
        while (line := await lines.next()) is not None:
            spoken = parse(line)
            if problem is not None:
                await self._say(problem(spoken))
            elif spoken.kind != "request" or spoken.method == "initialize":
                # What follows depends on it, or must not overtake it.
                await self._said(spoken, TAKEN)
            else:
                task = asyncio.create_task(self._in_turn(spoken))
                self._asking[str(spoken.id)] = task
                task.add_done_callback(partial(self._answered, str(spoken.id)))
            if spoken.taken_back is not None:
                self._take_back(str(spoken.taken_back))
            if spoken.method == "notifications/initialized" and not self._old and self._listening is None:
                self._listening = asyncio.create_task(self._listen())

    async def _in_turn(self, spoken: Spoken) -> None:
        async with self._room:
            await self._said(spoken, ANSWER)

    def _take_back(self, key: str) -> None:
        """Nobody waits for that answer any more: its stream need not be held open."""
        self._awaited.pop(key, None)
        if (task := self._asking.get(key)) is not None:
            task.cancel()

    def _answered(self, key: str, task: asyncio.Task[None]) -> None:
        if self._asking.get(key) is task:
            del self._asking[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault = self._fault or error
            self._over.set()

    async def _said(self, spoken: Spoken, seconds: float) -> None:
        """One message goes to the server; a request that gets no answer is answered here."""
        why: bytes
        try:
            async with asyncio.timeout(seconds):
                await self._carried(spoken)
            return
        except RefusedError as error:
            why = self._refused(error.verdict, spoken)
        except AnswerError as error:
            why = self._failed(spoken, f"the server answers with {error.reason}")
            if error.over:
                await self._say(why)
                self._over.set()
                return
        except CallError as error:
            why = self._failed(spoken, f"no answer: {error}")
        except TimeoutError:
            why = self._failed(spoken, f"no answer within {seconds:.0f} s")
        self._awaited.pop(str(spoken.id), None)
        await self._say(why)

    def _refused(self, verdict: Verdict, spoken: Spoken) -> bytes:
        """Which server, and what would allow it, are said where a client shows it: few show more than the message."""
        about = {"method": spoken.method} if spoken.method else {}
        ids = [spoken.id] if spoken.kind == "request" else []
        step = f"to allow it: {verdict.allow}" if verdict.allow else _SEE
        reason = f"{verdict.reason or verdict.by}, for {self._place}; {step}"
        return refusal(replace(verdict, reason=reason), about, ids) or b""

    def _failed(self, spoken: Spoken, why: str) -> bytes:
        return failure(ERROR, f"capsule: {why}", spoken.id) if spoken.kind == "request" else b""

    async def _carried(self, spoken: Spoken) -> None:
        if spoken.method == "initialize":
            self._first = spoken.id
        if self._old and spoken.kind == "request":
            self._awaited[str(spoken.id)] = spoken
        speaking = Speaking() if spoken.method == "initialize" else self._speaking
        fields = {**self._fields, **speaking.fields(posts=True)}
        asks = spoken.kind == "request"
        async with self._caller.asked("POST", self._posts.target, fields, spoken.line.rstrip()) as reply:
            kind = await self._content(reply)
            if not asks or self._old:
                return  # of the older transport the answer comes as an event
            if kind == "message":
                line = _flat(await reply.whole(LINE))
                await self._answer(spoken, reply, line, own=True)
            elif kind == "events":
                await self._events(spoken, reply)
            else:
                raise AnswerError(f"status {reply.status} and no message, to a request")

    async def _content(self, reply: Reply) -> Literal["message", "events", "nothing"]:
        try:
            return content(reply.status, reply.fields, known=self._speaking.session is not None)
        except AnswerError as error:
            if reply.status < 400:
                raise
            try:
                async with asyncio.timeout(LEAVE):
                    said = told(reply.status, reply.fields, await reply.whole(_BODY))
            except (CallError, TimeoutError):
                said = ""
            raise AnswerError(": ".join(filter(None, (error.reason, said))), over=error.over) from None

    async def _answer(self, spoken: Spoken, reply: Reply, line: bytes, *, own: bool) -> bool:
        """One message of an answer goes to the program; whether it was the answer.

        Args:
            spoken: what was asked.
            reply: where it came.
            line: it.
            own: it must be the answer.
        """
        try:
            came = parse(line)
        except SpokenError as error:
            if own or len(line) > LINE:
                raise AnswerError(f"no message: {error.reason}") from None
            await self._say(line + b"\n")  # the relay says what it is, and how often is too often
            return False
        answers = came.kind == "answer" and came.id == spoken.id and type(came.id) is type(spoken.id)
        if own and not answers:
            raise AnswerError("a message that does not answer it")
        if answers and spoken.method == "initialize":
            self._speaking = begun(reply.fields, came.message)
        self._in_its_place(came)
        await self._say(came.line)
        return answers

    async def _said_by_itself(self, line: bytes) -> None:
        """A message that comes on a stream of the server's own goes to the program.

        Raises:
            AnswerError: it is too long, or too early.
        """
        try:
            came = parse(line)
        except SpokenError as error:
            if len(line) > LINE:
                raise AnswerError(f"no message: {error.reason}") from None
        else:
            self._in_its_place(came)
            if came.kind == "answer":
                self._awaited.pop(str(came.id), None)
        await self._say(line + b"\n")

    def _in_its_place(self, came: Spoken) -> None:
        """Nothing but a ping is asked by who has not said yet who it is (lifecycle of the protocol).

        Raises:
            AnswerError: it is.
        """
        if came.kind == "answer" and came.id is not None and came.id == self._first:
            self._begun = True
        if came.kind == "request" and came.method != "ping" and not self._begun:
            raise AnswerError(f"{printable(came.method)}, before its answer to initialize")

    async def _events(self, spoken: Spoken, reply: Reply) -> None:
        """The events of an answer; a stream that ends before it is taken up where it was."""
        stream, idle = EventStream(EVENT), 0
        if await self._followed(spoken, reply, stream):
            return
        while (last := stream.last_id) and idle < AGAIN:
            await asyncio.sleep(_pause(stream, 1.0))
            stream = stream.resumed()
            fields = {**self._fields, **self._speaking.fields(posts=False, last=last)}
            if "last-event-id" not in fields:
                break  # an id that no head can have
            with contextlib.suppress(CallError):  # it broke off again: once more
                async with self._caller.asked("GET", self._address.target, fields) as again:
                    if await self._content(again) != "events":
                        break
                    if await self._followed(spoken, again, stream):
                        return
            idle = idle + 1 if stream.last_id == last else 0
        raise CallError("the stream of events ended before it came")

    async def _followed(self, spoken: Spoken, reply: Reply, stream: EventStream) -> bool:
        """One stream, until the answer has come; whether it has."""
        try:
            async for event in _each(reply, stream, most=STREAM):
                line = _flat(event.data.encode())
                if event.name == "message" and line and await self._answer(spoken, reply, line, own=False):
                    with contextlib.suppress(CallError, TimeoutError):
                        async with asyncio.timeout(LAST):
                            await reply.whole(LINE)  # then its connection serves the next request
                    return True
        except CallError:
            if not stream.last_id:
                raise
        return False

    # What the server says by itself.

    async def _listen(self) -> None:
        """Events on a GET, which a server need not offer."""
        stream, idle = EventStream(EVENT), 0
        while idle < AGAIN:
            stream, idle = stream.resumed(), idle + 1
            fields = {**self._fields, **self._speaking.fields(posts=False, last=stream.last_id)}
            try:
                async with self._caller.asked("GET", self._address.target, fields) as reply:
                    if content(reply.status, reply.fields) != "events":
                        return
                    async for event in _each(reply, stream):
                        if event.name == "message" and (line := _flat(event.data.encode())):
                            idle = 0
                            await self._said_by_itself(line)
            except (AnswerError, RefusedError):
                return
            except CallError:
                pass  # it broke off: once more, later
            await asyncio.sleep(_pause(stream, 2.0**idle))

    async def _attend(self) -> Callable[[Spoken], bytes] | None:
        """The older transport: all that the server says comes on one GET; None, or what is answered without one."""
        ready: asyncio.Future[Callable[[Spoken], bytes] | None] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._attended(ready))
        try:
            async with asyncio.timeout(ENDPOINT):
                return await ready
        except TimeoutError:
            return self._without(
                f"the server does not say within {ENDPOINT:.0f} s where it wants its messages", _OTHER
            )

    def _without(self, why: str, step: str) -> Callable[[Spoken], bytes]:
        """What is answered where there is no stream of events."""
        said = f"no events from {self._place} at {self._address.url}: {why}; {step}"
        return partial(self._failed, why=said)

    async def _attended(self, ready: asyncio.Future[Callable[[Spoken], bytes] | None]) -> None:
        fields = {**self._fields, **Speaking().fields(posts=False)}
        step = _SEE
        answered = self._without("the stream ended", step)
        try:
            async with self._caller.asked("GET", self._address.target, fields) as reply:
                step = _OTHER if reply.status in _NOT_THERE else _SEE
                if await self._content(reply) != "events":
                    raise AnswerError("no stream of events")
                async for event in _each(reply, EventStream(EVENT)):
                    if event.name == "endpoint" and not ready.done():
                        # The first it says: where it wants its messages.
                        self._posts = resolved(self._address, event.data.strip())
                        ready.set_result(None)
                    elif event.name == "message" and ready.done() and (line := _flat(event.data.encode())):
                        await self._said_by_itself(line)
        except AnswerError as error:
            answered = self._without(f"the server answers with {error.reason}", step)
        except RefusedError as error:
            answered = partial(self._refused, error.verdict)
        except CallError as error:
            answered = self._without(str(error), step)
        if not ready.done():
            ready.set_result(answered)
            return
        awaited, self._awaited = self._awaited, {}
        for spoken in awaited.values():
            await self._say(answered(spoken))
        self._over.set()

    async def _say(self, line: bytes) -> None:
        if line:
            async with self._one:
                await asyncio.get_running_loop().sock_sendall(self._sock, line)


async def _each(reply: Reply, stream: EventStream, *, most: int | None = None) -> AsyncIterator[Event]:
    """Events as they come.

    Raises:
        AnswerError: one is too long, or all are.
        CallError: they break off.
    """
    size = 0
    async for piece in reply.pieces():
        size += len(piece)
        for event in stream.feed(piece):
            yield event
        if stream.overflown:
            raise AnswerError("an event that is too long")
        if most is not None and size > most:
            raise AnswerError(f"more than {most} bytes of events and no answer in them")


def _pause(stream: EventStream, usual: float) -> float:
    """Seconds before a stream is taken up again."""
    wished = usual if stream.retry_ms is None else stream.retry_ms / 1000
    return min(max(wished, SOONEST), SLOWEST)


def _flat(data: bytes) -> bytes:
    """A message on one line: between the values of JSON a line's end is a space, and within them none is JSON's."""
    return data.replace(b"\r", b" ").replace(b"\n", b" ").strip()
