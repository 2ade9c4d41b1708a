"""The network of one machine: its proxy, started when the guest first says something, and what the proxy asks for.

The guest's ports 5002 and 5003 (MCP) are handed to the proxy unread. Refuses the proxy everything but its fixed
questions: entries of the kinds below, connections (`dialling`), MCP servers (`servers`), a person's answer. When it
ends, the machine has no network any more, which is on the log; nothing else of the machine ends with it.

    network = Network(record, evidence.write, directory)
    authority = await network.authority()         # for the guest's identity; None: nothing is reached anyway
    network.attach(qemu.ports[5002], qemu.ports[5003])
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets as randomness
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsem.errors import CapsemError, MachineError, NotFoundError, UsageError, WireError
from capsem.host.confinement import proxied
from capsem.host.handover import Handover
from capsem.host.memory import blank
from capsem.host.qemu import die_with
from capsem.host.whole import write_whole
from capsem.processes.monitor.evidence import when_there_is_room
from capsem.processes.monitor.servers import Servers
from capsem.vm.network import NOTHING, TextFile, session
from capsem.vm.record import Record
from capsem.wire import guest
from capsem.wire.frame import Message
from capsem.wire.monitor import Answer as ClientAnswer
from capsem.wire.proxy import Answer as ProxyAnswer
from capsem.wire.proxy import (
    Ask,
    Asked,
    Begin,
    Beginning,
    Dial,
    Dialled,
    Lost,
    NeedSecret,
    Note,
    Noted,
    Over,
    Ready,
    Secret,
    Serve,
    Served,
    Server,
    Signer,
    decode_proxy,
    encode,
    encode_beginning,
)
from capsem.wire.proxy import Record as ProxyRecord

if TYPE_CHECKING:
    from capsem.processes.monitor.dialling import Dialling

KINDS = frozenset(
    f"egress.{kind}"
    for kind in (
        "http",
        "dns",
        "tcp",
        "model",
        "mcp",
        "websocket",
        "finding",
        "ask",
        "answer",
        "budget",
        "rules",
        "flood",
    )
)
"""Entries that a proxy may write."""
ASKS = 128
"""That wait; a proxy says no more than 64."""
ANSWER_SECONDS = 5.0
BUNDLE, ALONE = "/etc/ssl/certs/ca-certificates.crt", "/run/capsem/ca.pem"
TRUST = {
    **dict.fromkeys(
        (
            "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO",
            "AWS_CA_BUNDLE", "DENO_CERT",
        ),
        BUNDLE,
    ),
    "NODE_EXTRA_CA_CERTS": ALONE,
}  # fmt: skip
"""Variables that name the authorities to trust, for programs that do not look where the system's are."""
DIALS = 256
"""Connections that a proxy may wait for."""
_CROWDED = "too many connections are being opened"
RecordEntry = Callable[[str, dict[str, Any]], Awaitable[None]]


def _placeholders(directory: Path, names: list[str]) -> dict[str, str]:
    """What stands for each secret; the same as long as the machine is there, since programs that run on hold it.

    Raises:
        MachineError: what is kept of them is not of this machine's policy.
    """
    place = directory / "placeholders.json"
    if not names:
        return {}
    try:
        kept = json.loads(place.read_bytes())
    except FileNotFoundError:
        kept = {name: f"capsule-secret-{name}-{randomness.token_hex(16)}" for name in names}
        write_whole(place, json.dumps(kept).encode())
    except ValueError:
        kept = None
    if not isinstance(kept, dict) or set(kept) != set(names) or not all(map(_is_placeholder, kept.items())):
        raise MachineError(f"{place} does not name the secrets of its policy", next_step=f"remove {place}")
    return kept


def _is_placeholder(item: tuple[Any, Any]) -> bool:
    name, text = item
    return (
        isinstance(text, str)
        and re.fullmatch(rf"capsule-secret-{re.escape(name)}-[0-9a-f]{{32}}", text) is not None
    )


class Network:
    """One machine's."""

    def __init__(self, record: Record, write: RecordEntry, directory: Path) -> None:
        self._record = record
        self._spec = record.spec.network
        self._write = write
        self._directory = directory
        self._signer: Signer | None = None
        self._ports: tuple[socket.socket, ...] = ()
        self.servers = Servers(record.spec.mcp, directory, write)
        self._process: asyncio.subprocess.Process | None = None
        self._handover: Handover | None = None
        self._running: asyncio.Task[None] | None = None
        self._heard: asyncio.Queue[Message | None] = asyncio.Queue()
        self._dials: set[asyncio.Task[None]] = set()
        self._dialling: Dialling | None = None
        self._plan = NOTHING if self._spec is None else self._spec.plan
        self._placeholders = _placeholders(directory, [one["name"] for one in self._plan["secrets"]])
        self._values: dict[str, str] | None = None if self._placeholders else {}
        self._asks: dict[str, dict[str, Any]] = {}
        self._outcomes: dict[str, asyncio.Future[str]] = {}
        self._asked = asyncio.Event()
        self.ready: Ready | None = None

    @property
    def proxy_pid(self) -> int | None:
        """Of the program that confines the proxy; None: none runs."""
        return None if self._process is None else self._process.pid

    async def authority(self) -> str | None:
        """What programs inside are to trust, PEM; None where nothing is reached and nothing is shown."""
        if self._spec is None or not self._spec.reaches:
            return None
        return (await self._sign()).certificate

    async def _sign(self) -> Signer:
        if self._signer is None:
            from capsem.processes.monitor.signing import make_signer

            plan = self._plan
            hosts = None if plan["unlisted"] == "ask" else tuple(entry["host"] for entry in plan["hosts"])
            self._signer = await asyncio.to_thread(make_signer, hosts)
        return self._signer

    def attach(self, network: socket.socket, mcp: socket.socket) -> None:
        """Take over the guest's ports; a proxy starts with the first byte of either."""
        self._ports = (network, mcp)
        for port in self._ports:
            # What is left of another conversation (of a machine that was suspended) is not of this one; nothing new
            # comes before the guest is told that it is heard.
            with contextlib.suppress(BlockingIOError):
                while port.recv(1 << 16, socket.MSG_DONTWAIT):
                    pass
            port.send(guest.encode(guest.Serve()))
        if self._values is not None:
            self._listen()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()

        def came(port: socket.socket) -> None:
            loop.remove_reader(port.fileno())
            with contextlib.suppress(OSError):
                # Where the guest has hung up, nobody is there to be served.
                if port.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) and self._running is None:
                    self._unheard()
                    self._start()

        for port in self._ports:
            loop.add_reader(port.fileno(), came, port)

    def _unheard(self) -> None:
        for port in self._ports:
            if port.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(port.fileno())

    def environment(self) -> dict[str, str]:
        """What commands are told: where the machine's authority is, and what stands for each secret."""
        if self._spec is None or not self._spec.reaches:
            return {}
        names = {one["name"]: one["env"] for one in self._plan["secrets"] if one["env"]}
        return {**TRUST, **{names[name]: text for name, text in self._placeholders.items() if name in names}}

    async def give(self, values: dict[str, str]) -> None:
        """Take the values of the policy's secrets: the first time, or fresh ones.

        Raises:
            UsageError: they are not the policy's.
        """
        if set(values) != set(self._placeholders):
            named = ", ".join(sorted(self._placeholders)) or "none"
            raise UsageError(f"the machine's policy names other secrets: {named}", next_step="see its policy")
        first, self._values = self._values is None, values
        if first and self._ports and self._running is None:
            # What the guest said has waited for the values.
            self._listen()
        elif self._handover is not None:
            for name, value in values.items():
                self._handover.send(encode(Secret(name, value)))

    async def asks(self, seconds: float) -> tuple[dict[str, Any], ...]:
        """What waits for an answer, the oldest first; where nothing does, what comes in so many seconds."""
        if not self._asks and seconds > 0:
            self._asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._asked.wait()
        return tuple(self._asks.values())

    async def answer(self, answer: ClientAnswer) -> str:
        """Hand a person's answer to the proxy; how it came out.

        Raises:
            NotFoundError: nothing waits under that id.
        """
        ask = self._asks.pop(answer.id, None)
        if ask is None or self._handover is None:
            raise NotFoundError(f"no ask {answer.id} waits in this machine", next_step="see capsem asks")
        event = ask.get("event", {})
        for section in (event.get("http"), event.get("tcp")):
            # What the person saw is what is dialled: an unlisted host is opened for this one alone.
            if answer.action == "allow" and isinstance(section, dict):
                self._dialler().agree(str(section.get("host")), int(section.get("port") or 0))
        future = self._outcomes[answer.id] = asyncio.get_running_loop().create_future()
        said = ProxyAnswer(answer.id, answer.action == "allow", answer.scope, answer.for_ms)
        self._handover.send(encode(said))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                outcome: str = await future
            return outcome
        except TimeoutError:
            raise NotFoundError(f"ask {answer.id} is over", next_step="see capsem asks") from None
        finally:
            self._outcomes.pop(answer.id, None)

    def _start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        reason = "its proxy ended"
        try:
            reason = await self._attended()
        except CapsemError as error:
            reason = error.message
        finally:
            self._let_go()
        with contextlib.suppress(MachineError):
            await self._write("machine.network_lost", {"reason": reason})

    async def _attended(self) -> str:
        rules = [TextFile(rule.file, rule.text) for rule in self._record.spec.rules]
        secrets = {
            name: {"value": value, "placeholder": self._placeholders[name]}
            for name, value in (self._values or {}).items()
        }
        declared = tuple(
            Server(one.name, one.file, one.line, one.changes, one.url, one.headers, one.transport)
            for one in self._record.spec.mcp
        )
        beginning = Beginning(
            session(self._record.id, self._spec, rules, secrets),
            await self._sign(),
            declared,
            self._record.names,
        )
        ours, theirs = socket.socketpair()
        errors = os.open(
            self._directory / "proxy.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            self._process = await asyncio.create_subprocess_exec(
                *proxied(self._directory / "proxy.capsule.log"), stdin=theirs.fileno(), stdout=errors, stderr=errors,
                preexec_fn=die_with(os.getpid()), start_new_session=True, cwd="/",
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise MachineError(
                f"the proxy does not start: {error}", next_step="see capsule doctor"
            ) from error
        finally:
            theirs.close()
            os.close(errors)
        heard = self._heard = asyncio.Queue()
        handover = self._handover = Handover(
            ours, on_message=self._came, on_end=lambda _: heard.put_nowait(None)
        )
        content = blank("beginning")
        os.write(content, encode_beginning(beginning))
        handover.send(encode(Begin()), [*(port.detach() for port in self._ports), content])
        handover.start()
        while (message := await heard.get()) is not None:
            if (lost := await self._obey(handover, message)) is not None:
                return lost
            if heard.qsize() < 64:
                handover.resume()
        code = await self._process.wait()
        return f"its proxy ended with {code}; see {self._directory / 'proxy.log'}"

    def _came(self, message: Message) -> None:
        self._heard.put_nowait(message)
        if self._heard.qsize() >= 256 and self._handover is not None:
            self._handover.pause()

    async def _obey(self, handover: Handover, untrusted: Message) -> str | None:
        match decode_proxy(untrusted):
            case Ready() as ready:
                self.ready = ready
                if ready.problems:
                    await self._write("machine.network_problem", {"problems": list(ready.problems)})
            case ProxyRecord(entry):
                kind = entry.pop("type", None)
                if kind not in KINDS or "run" in entry:
                    raise WireError(f"the proxy wrote an entry of kind {kind!r}", next_step="report this")
                if isinstance(entry.get("program"), dict):
                    entry["program"]["reported_by"] = "guest"
                # What it tells next waits with it: no question is answered that is not on the log.
                await when_there_is_room(self._write, kind, entry)
            case Note(number):
                handover.send(encode(Noted(number)))
            case Dial() as dial:
                self._beside(self._dial(handover, dial), Dialled(dial.id, None, _CROWDED), handover)
            case Serve() as asked:
                self._beside(self._serve(handover, asked), Served(asked.id, _CROWDED), handover)
            case Over(number):
                self.servers.over(number)
            case Lost(reason):
                return reason
            case Ask() | Asked() as said:
                self._about_asks(said)
            case NeedSecret(name):
                await self._write("machine.network_problem", {"problems": [f"secret {name} has expired"]})
        return None

    def _about_asks(self, said: Ask | Asked) -> None:
        if isinstance(said, Ask):
            if len(self._asks) < ASKS:
                self._asks[str(said.ask.get("id"))] = said.ask
                self._asked.set()
            return
        self._asks.pop(said.id, None)
        future = self._outcomes.get(said.id)
        if future is not None and not future.done():
            future.set_result(said.outcome)

    def _beside(self, work: Coroutine[Any, Any, None], crowded: Dialled | Served, handover: Handover) -> None:
        if len(self._dials) >= DIALS:
            work.close()
            handover.send(encode(crowded))
            return
        task = asyncio.create_task(work)
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _serve(self, handover: Handover, asked: Serve) -> None:
        try:
            sock = await self.servers.start(asked.id, asked.name)
        except MachineError as error:
            handover.send(encode(Served(asked.id, error.message)))
        else:
            handover.send(encode(Served(asked.id, None)), [sock.detach()])

    async def _dial(self, handover: Handover, dial: Dial) -> None:
        from capsem.processes.monitor.dialling import NotDialledError

        try:
            sock, address = await self._dialler().open(dial.host, dial.port, untrusted_private=dial.private)
        except NotDialledError as error:
            handover.send(encode(Dialled(dial.id, None, error.message, forbidden=error.forbidden)))
        except MachineError as error:
            handover.send(encode(Dialled(dial.id, None, error.message)))
        else:
            handover.send(encode(Dialled(dial.id, address, None)), [sock.detach()])

    def _dialler(self) -> Dialling:
        if self._dialling is None:
            import msgspec

            from capsem.processes.monitor.dialling import Dialling
            from capsule.egress.frames import Egress

            self._dialling = Dialling(msgspec.convert(self._plan, Egress), self._write)
        return self._dialling

    def _let_go(self) -> None:
        for task in self._dials:
            task.cancel()
        for number in list(self.servers.pids):
            self.servers.over(number)
        if self._handover is not None:
            self._handover.close("the machine's network is over")
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """End the proxy with its machine; it has a moment for what is still to be recorded."""
        self._unheard()
        for port in self._ports:
            if port.fileno() >= 0:
                port.close()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None
        if self._process is not None:
            await self._process.wait()
            self._process = None
        await self.servers.close()
