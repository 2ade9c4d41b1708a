"""Plays the supervisor: a namespace with listeners, a really started daemon, a session, and the entries it records."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.egress.certificates import Pair, make

BUDGETS = ("requests", "bytes", "tokens", "microdollars")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Stage:
    """The namespace that stands for a sandbox."""

    def __init__(self, *ports: int) -> None:
        ours, theirs = socket.socketpair()
        os.set_inheritable(theirs.fileno(), True)
        argv = ["unshare", "-U", "-r", "-n", "-m", sys.executable, str(HERE / "inside.py")]
        self.process = subprocess.Popen(
            [*argv, str(theirs.fileno()), *map(str, ports)], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        ours.settimeout(20)
        data, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4 * 64))
        assert data == b"R", "the namespace was not made"
        numbers = array.array("i")
        for _, _, content in ancillary:
            numbers.frombytes(content)
        self.descriptors = list(numbers)
        self.ports = ports
        ours.settimeout(None)
        self._control = ours
        self._lock = threading.Lock()
        self._answers: dict[int, Done] = {}
        self._came = threading.Condition()
        self._count = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._control.makefile("rb"):
            answer = json.loads(line)
            with self._came:
                self._answers[answer["id"]] = Done(answer["code"], answer["out"], answer["err"])
                self._came.notify_all()

    def start(
        self, *argv: str, given: str = "", timeout: float = 60, env: dict[str, str] | None = None
    ) -> int:
        with self._lock:
            self._count += 1
            number = self._count
            order = {"id": number, "argv": argv, "input": given, "timeout": timeout, "env": env or {}}
            self._control.sendall(json.dumps(order).encode() + b"\n")
        return number

    def finish(self, number: int, timeout: float = 60) -> Done:
        with self._came:
            assert self._came.wait_for(lambda: number in self._answers, timeout), "the command did not end"
            return self._answers.pop(number)

    def run(
        self, *argv: str, given: str = "", timeout: float = 60, env: dict[str, str] | None = None
    ) -> Done:
        return self.finish(self.start(*argv, given=given, timeout=timeout, env=env), timeout + 5)

    def close(self) -> None:
        self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        self.process.wait(20)
        for number in self.descriptors:
            os.close(number)
        self.descriptors = []


def processor_seconds(pid: int) -> float:
    """What a process has used (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Daemon:
    """A really started capsule-egress."""

    def __init__(self, directory: Path, *, idle: float = 60, python: str = sys.executable) -> None:
        self.path = directory / "socket"
        self.log = directory / "egress.log"
        self.authority = make("capsule test authority")
        self.authority.write(directory, "authority")
        self.directory = directory
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        listening.listen(64)
        with self.log.open("wb") as log, listening:
            self.process = subprocess.Popen(
                [python, "-m", "capsule.egress"],
                stdin=listening.fileno(),
                stdout=log,
                stderr=log,
                env={**os.environ, "CAPSULE_EGRESS_IDLE": str(idle)},
                cwd="/",
            )

    def spent(self) -> float:
        """Processor seconds up to now."""
        return processor_seconds(self.process.pid)

    def memory(self) -> int:
        """Bytes resident now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)


def host(name: str, *ports: int, **fields: Any) -> dict[str, Any]:
    """A host entry of a plan."""
    entry = {"host": name, "ports": list(ports) or [443, 80], "methods": None, "paths": None, "inspect": "always",
             "private": False, "credential": None, "origin": {"file": "capsule.yaml", "line": 3}}  # fmt: skip
    return {**entry, **fields}


def plan(*hosts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """`network.egress` of a plan."""
    found = {"unlisted": "deny", "hosts": list(hosts), "budget": dict.fromkeys(BUDGETS), "upstreams": [],
             "authorities": [], "proxy": None, "secrets": [], "rules": [], "detect": []}  # fmt: skip
    return {**found, **fields}


@dataclass
class Run:
    """One session, its frames collected."""

    daemon: Daemon
    stage: Stage
    plan: dict[str, Any]
    sources: list[dict[str, str]] = field(default_factory=list)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    interactive: bool = False
    name: str = "run-1"
    frames: list[dict[str, Any]] = field(default_factory=list)

    def open(self) -> Run:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.daemon.path))
        self._changed = threading.Condition()
        session = {
            "type": "session", "version": 1, "run": self.name, "command": ["true"], "cwd": "/",
            "policy": {"name": "test", "digest": "0" * 64}, "egress": self.plan, "sources": self.sources,
            "secrets": self.secrets, "ports": list(self.stage.ports), "interactive": self.interactive,
        }  # fmt: skip
        self.send(session, self.stage.descriptors)
        threading.Thread(target=self._read, daemon=True).start()
        # The daemon may just have been started, on a machine that does other things too.
        first = self.frame(lambda frame: frame["type"] in ("ready", "need_authority"), 90)
        if first["type"] == "need_authority":
            files = [open(self.daemon.directory / f"authority.{end}", "rb") for end in ("key", "pem")]  # noqa: SIM115
            self.send({"type": "authority"}, [file.fileno() for file in files])
            for file in files:
                file.close()
            first = self.frame(lambda frame: frame["type"] == "ready")
        self.ready = first
        return self

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        data = json.dumps(message).encode()
        framed = len(data).to_bytes(4, "big") + data
        if not descriptors:
            self.sock.sendall(framed)
            return
        numbers = array.array("i", descriptors)
        sent = self.sock.sendmsg([framed], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers.tobytes())])
        self.sock.sendall(framed[sent:])

    def _read(self) -> None:
        stream = self.sock.makefile("rb")
        while len(head := stream.read(4)) == 4:
            length = int.from_bytes(head, "big")
            if len(body := stream.read(length)) < length:
                break  # it was killed in the middle of a frame
            frame = json.loads(body)
            with self._changed:
                self.frames.append(frame)
                self._changed.notify_all()
        with self._changed:
            self.frames.append({"type": "end"})
            self._changed.notify_all()

    def frame(self, wanted: Any, timeout: float = 20) -> dict[str, Any]:
        """The first frame that is wanted."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [frame for frame in self.frames if wanted(frame)]
            return bool(found) or self.ended

        with self._changed:
            self._changed.wait_for(look, timeout)
        assert found, f"no such frame among {self.frames}\n{self.daemon.log.read_text()}"
        return found[0]

    @property
    def ended(self) -> bool:
        return bool(self.frames) and self.frames[-1]["type"] == "end"

    def record(self, kind: str, timeout: float = 20, **wanted: Any) -> dict[str, Any]:
        """The first entry of a type whose section has these values."""
        section = kind.removeprefix("egress.")

        def matches(frame: dict[str, Any]) -> bool:
            entry = frame.get("entry", {})
            if entry.get("type") != kind:
                return False
            fields = entry.get(section, {})
            return all(fields.get(key) == value for key, value in wanted.items())

        entry: dict[str, Any] = self.frame(matches, timeout)["entry"]
        return entry

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [frame["entry"] for frame in self.frames if frame.get("entry", {}).get("type") == kind]

    def half_close(self) -> None:
        """Says that the run is over; what is still recorded is read."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def wait_until(condition: Any, timeout: float = 10) -> None:
    """Until it holds."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


__all__ = ["Daemon", "Done", "Pair", "Run", "Stage", "host", "plan", "wait_until"]
