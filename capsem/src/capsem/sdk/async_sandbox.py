"""`AsyncSandbox`: a machine and what can be done in it. Names are those of E2B's SDK where it has them.

Refuses to go on with a machine that was killed: every call then raises `MachineError`.

    async with await AsyncSandbox.create() as box:
        result = await box.commands.run("echo hello")
        await box.files.write("/root/x", "text")
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from capsem.errors import MachineError, NotFoundError, UsageError
from capsem.host.mcp import servers_of
from capsem.host.operation import answer
from capsem.host.progress import Silent
from capsem.host.rulefiles import rules_of
from capsem.host.service import call
from capsem.host.settings import load
from capsem.sdk.command import (
    CommandHandle,
    CommandResult,
    OnText,
    Piece,
    ProcessInfo,
    attach,
    pieces,
    start,
    to_run,
)
from capsem.sdk.files import Files
from capsem.sdk.owned import Owned, hold, let_stay, release
from capsem.vm.bounds import DEFAULT_DISK
from capsem.wire import monitor

if TYPE_CHECKING:
    from capsem.sdk.evidence import AsyncEvidence
    from capsem.sdk.pty import AsyncPty
    from capsem.sdk.workspace import AsyncWorkspace


def by_handle(stdin: str | bytes | None, *, check: bool) -> None:
    """Refuse for a command in the background what its handle is for.

    Raises:
        UsageError: one of them is given.
    """
    if stdin is not None or check:
        raise UsageError(
            "a command in the background is given its input, and asked for its end, by its handle",
            next_step="use handle.send_stdin, handle.close_stdin and handle.wait(check=True)",
        )


def milliseconds(seconds: float) -> int:
    """A time as a machine is told it.

    Raises:
        UsageError: it is none.
    """
    if not 0.001 <= seconds <= (1 << 40) / 1000:
        raise UsageError(f"{seconds} seconds is no time", next_step="give a number above 0, or None")
    return int(seconds * 1000)


class Commands:
    """Commands in one machine."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    @overload
    async def run(
        self, cmd: str | Sequence[str], *, background: Literal[False] = ..., envs: Mapping[str, str] | None = ...,
        cwd: str | None = ..., user: int | None = ..., stdin: str | bytes | None = ..., timeout: float | None = ...,
        on_stdout: OnText | None = ..., on_stderr: OnText | None = ..., check: bool = ...,
    ) -> CommandResult: ...  # fmt: skip

    @overload
    async def run(
        self, cmd: str | Sequence[str], *, background: Literal[True], envs: Mapping[str, str] | None = ...,
        cwd: str | None = ..., user: int | None = ..., timeout: float | None = ...,
        on_stdout: OnText | None = ..., on_stderr: OnText | None = ...,
    ) -> CommandHandle: ...  # fmt: skip

    async def run(
        self, cmd: str | Sequence[str], *, background: bool = False, envs: Mapping[str, str] | None = None,
        cwd: str | None = None, user: int | None = None, stdin: str | bytes | None = None,
        timeout: float | None = 60.0, on_stdout: OnText | None = None, on_stderr: OnText | None = None,
        check: bool = False,
    ) -> CommandResult | CommandHandle:  # fmt: skip
        """Run a command.

        Args:
            cmd: a line for `/bin/sh -c`, or a program and its arguments.
            background: return a handle as soon as it runs; its input stays open.
            envs: variables beside the machine's own.
            cwd: where; None: the machine's default.
            user: a user id; None: the machine's default.
            stdin: its whole input.
            timeout: seconds until it is killed; None: never.
            on_stdout: told of output as it comes.
            on_stderr: the same of standard error.
            check: raise when it does not end with 0.

        Raises:
            CommandTimeoutError, CommandExitError: see `CommandHandle.wait`.
            RefusedError: a rule refused it.
            UsageError: `stdin` or `check` of one in the background.
        """
        if background:
            by_handle(stdin, check=check)
        reads = background or stdin is not None
        asked = to_run(cmd, envs=envs, cwd=cwd, user=user, timeout=timeout, stdin=reads)
        handle = await start(self._socket, asked, on_stdout=on_stdout, on_stderr=on_stderr)
        if background:
            return handle
        try:
            if stdin is not None:
                await handle.send_stdin(stdin)
                await handle.close_stdin()
            return await handle.wait(check=check)
        finally:
            # Who does not wait any longer, as at the end of `asyncio.timeout`, has it killed.
            await handle.close()

    async def list(self) -> list[ProcessInfo]:
        """The commands and terminals that run, whoever began them, since the machine's last start."""
        said = await answer(self._socket, monitor.Commands(), monitor.Listed, "say what runs")
        return [
            ProcessInfo(
                one.pid, one.argv[0], one.argv[1:], one.cwd, one.user, one.started, stdin=one.stdin, tty=one.tty,
                attended=one.attended, cut=one.cut,
            )
            for one in said.commands
        ]  # fmt: skip

    async def connect(
        self, pid: int, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None
    ) -> CommandHandle:
        """Attend to a command that runs: what it writes from now on, its input, its end.

        That is on the machine's log first, as are input and signals that are given to one so.

        Raises:
            NotFoundError: there is none.
            NoRoomError: the log has no room; as of `send_stdin`, `close_stdin` and `kill`.
        """
        return await attach(self._socket, pid, on_stdout=on_stdout, on_stderr=on_stderr)

    async def send_stdin(self, pid: int, data: str | bytes) -> None:
        """More input for a command that runs; waits while it does not read.

        Raises:
            NotFoundError: there is none.
            UsageError: it was begun without an input.
        """
        async with self._attended(pid) as handle:
            await handle.send_stdin(data)
            await handle.stdin_taken()

    async def close_stdin(self, pid: int) -> None:
        """There is no more input for a command that runs; errors as of `send_stdin`."""
        async with self._attended(pid) as handle:
            await handle.close_stdin()
            await handle.stdin_taken()

    async def kill(self, pid: int) -> bool:
        """SIGKILL to a command that runs, and wait for its end; False when there is none."""
        try:
            handle = await self.connect(pid)
        except NotFoundError:
            return False
        await handle.kill()
        return True

    @contextlib.asynccontextmanager
    async def _attended(self, pid: int) -> AsyncIterator[CommandHandle]:
        """A command that is attended to for a moment; what went wrong meanwhile is raised."""
        handle = await self.connect(pid)
        try:
            yield handle
        finally:
            await handle.leave()

    def stream(
        self, cmd: str | Sequence[str], *, envs: Mapping[str, str] | None = None, cwd: str | None = None,
        user: int | None = None, timeout: float | None = 60.0,
    ) -> AsyncGenerator[Piece]:  # fmt: skip
        """Run a command and give its output as it comes; `aclose()` kills it. Arguments as in `run`.

        Raises:
            CommandTimeoutError: its time was over; from the iteration.
        """
        return pieces(self._socket, to_run(cmd, envs=envs, cwd=cwd, user=user, timeout=timeout))


async def _begun(how: str, machine: str, body: object = None) -> Any:
    """Start it in some way, with the secrets of its policy had again from where that says."""
    from capsem.host.secrets import begun

    return await begun(how, machine, body)


class AsyncSandbox:
    """One machine. Made without a name it is this program's, and ends with it, unless it was let stay.

    Attributes:
        sandbox_id: its id.
        commands: what runs in it.
        files: what is in it.
    """

    _workspace: AsyncWorkspace | None = None
    _leased = _detached = False

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self._machine = machine
        self.socket = Path(machine["socket"])
        self.sandbox_id = str(machine["id"])
        self.name: str | None = machine["name"]
        self.log = Path(machine["log"])
        self.commands = Commands(self.socket)
        self.files = Files(self.socket)

    @classmethod
    async def create(
        cls, image: str | None = None, *, name: str | None = None, cpus: int | None = None,
        memory_mib: int | None = None, disk_mib: int | None = DEFAULT_DISK, envs: Mapping[str, str] | None = None,
        rules: Sequence[str | Path] = (), workspace: str | Path | None = None, policy: str | Path | None = None,
        share: Literal["copy", "live"] = "copy", mcp: str | Path | None = None, detached: bool = False,
        timeout: float | None = None,
    ) -> Self:  # fmt: skip
        """Make a machine and start it. What is not given is as the settings say (`capsem config`).

        One with neither a name nor `detached` ends with this program, however that ends: see `detach` and `persist`.

        Args:
            image: the name or digest of an image.
            name: with one, it outlives its stop.
            cpus: virtual processors.
            memory_mib: memory, MiB.
            disk_mib: the most its own disk may hold, MiB; None: what it writes is in its memory.
            envs: variables for every command.
            rules: files of rules that decide what is run and copied.
            workspace: a directory that is copied to /workspace, where commands then run.
            policy: a file, or a preset's name: what it may reach; `none`: nothing.
            share: `live`: the workspace is the directory itself, which the machine changes at once.
            mcp: a file that declares MCP servers of this host, which its programs may use.
            detached: without a name, it outlives this program all the same, until it is killed or stopped.
            timeout: seconds from now after which it ends, whoever uses it: see `set_timeout`. None: no such time.

        Raises:
            UsageError: a file of rules cannot be read, a secret of the policy not be had, or the organisation's
                settings say otherwise.
            PolicyError: there is no such policy, or it is wrong, with every place.
        """
        if timeout is not None:
            milliseconds(timeout)
        settings = load()
        policy = str(settings.of("machine.policy").value if policy is None else policy)
        if policy != "none":
            # The compiler is large; who gives no policy does not load it.
            from capsem.host.policy import network_of
            from capsem.host.secrets import give, secrets_of

            network = network_of(policy)
            values = secrets_of(network["egress"])
        else:
            network, values = None, {}
        asked = {
            "image": settings.of("machine.image").value if image is None else image, "name": name,
            "cpus": settings.of("machine.cpu").value if cpus is None else cpus,
            "memory_mib": settings.mebibytes("machine.memory") if memory_mib is None else memory_mib,
            "disk_mib": settings.mebibytes("machine.disk") if disk_mib == DEFAULT_DISK else disk_mib,
            "env": dict(envs or {}), "rules": rules_of(rules), "network": network, "share": share,
            "mcp": [] if mcp is None else servers_of(mcp, network), "leased": name is None and not detached,
        }  # fmt: skip
        lease = Owned() if asked["leased"] else None
        if workspace is None or share == "live":
            root = None if workspace is None else str(Path(workspace).resolve())
            machine = await call("POST", "/machines", {**asked, "workspace": root})
            if lease is not None:
                await lease.take(machine)
        else:
            # What a workspace needs is loaded for a machine that has one.
            from capsem.host.workspace import make, root_of

            machine, _ = await make({**asked, "workspace": str(root_of(workspace))}, Silent(), lease)
        made = cls(machine)
        made._leased, made._detached = lease is not None, detached
        try:
            if values:
                await give(made.socket, values)
            if timeout is not None:
                await made.set_timeout(timeout)
        except BaseException:
            await made.kill()
            raise
        return made

    @property
    def pty(self) -> AsyncPty:
        """Terminals in it."""
        # Most programs open none.
        from capsem.sdk.pty import AsyncPty

        return AsyncPty(self.socket)

    @property
    def workspace(self) -> AsyncWorkspace:
        """Its workspace; a machine without one refuses what is asked of it."""
        if self._workspace is None:
            from capsem.sdk.workspace import AsyncWorkspace

            self._workspace = AsyncWorkspace(self._machine)
        return self._workspace

    @property
    def evidence(self) -> AsyncEvidence:
        """What is recorded of it: its story, SQL over it, the verifier. It stays when the machine is gone."""
        # Reading a record loads what `commands.run` does not need.
        from capsem.sdk.evidence import AsyncEvidence

        return AsyncEvidence(self.sandbox_id)

    @classmethod
    async def connect(cls, sandbox_id: str) -> Self:
        """A machine that is there, by id or name; one that is suspended is resumed, another that stands is started."""
        machine = await call("GET", f"/machines/{sandbox_id}")
        if machine["status"] is None:
            how = "resume" if machine["state"] == "suspended" else "start"
            machine = await _begun(how, sandbox_id)
        return cls(machine)

    async def get_info(self) -> dict[str, Any]:
        """What is known of it."""
        found: dict[str, Any] = await call("GET", f"/machines/{self.sandbox_id}")
        return found

    async def is_running(self) -> bool:
        """Whether its monitor answers."""
        try:
            return (await self.get_info())["status"] is not None
        except NotFoundError:
            return False

    @classmethod
    async def list(cls) -> Sequence[Mapping[str, Any]]:
        """Every machine of this user, as `get_info` tells of one, the oldest first."""
        found: Sequence[Mapping[str, Any]] = await call("GET", "/machines")
        return found

    async def set_timeout(self, timeout: float | None) -> None:
        """Have it end so many seconds from now; what was set before counts no more. None: it ends when it is ended.

        It ends in order: one with a name stands then, and can be started; another is gone. The time is of this run of
        it: one that is paused, stopped or restarted meanwhile has none afterwards. `get_info` has what is left
        (`status`, `ends_in_ms`).

        Raises:
            UsageError: it is no time.
            MachineError: it does not run.
        """
        after = None if timeout is None else milliseconds(timeout)
        await answer(self.socket, monitor.Deadline(after), monitor.Done, "take the time")

    async def kill(self) -> bool:
        """End and remove it; False when it was gone already."""
        try:
            await call("POST", f"/machines/{self.sandbox_id}/delete", {"force": True})
        except NotFoundError:
            return False
        finally:
            release(self.sandbox_id)
        return True

    async def stop(self) -> None:
        """End it in order; one with a name stays and can be connected to again."""
        await call("POST", f"/machines/{self.sandbox_id}/stop", {"force": False})
        release(self.sandbox_id)

    async def restart(self) -> None:
        """End it in order and start it again, from its disk; a temporary one stays, too."""
        await self._go_on("restart", {"force": False})

    async def pause(self) -> None:
        """Keep its memory and devices on the host's disk, and end it; `resume` or `connect` go on from there.

        What was paused is kept, also when this program ends. `resume` makes it this program's again.
        """
        await call("POST", f"/machines/{self.sandbox_id}/suspend")
        release(self.sandbox_id)

    async def resume(self) -> None:
        """Go on from where it was paused: what ran runs on, with other random numbers and the time of now."""
        await self._go_on("resume", {})

    async def _go_on(self, how: str, body: Mapping[str, Any]) -> None:
        machine = await _begun(how, self.sandbox_id, {**body, "leased": self._leased})
        # Meanwhile it may have been given a name.
        if self._leased and machine["name"] is None:
            await hold(machine)

    async def detach(self) -> None:
        """From now on it outlives this program, and the block it was made in, until somebody kills or stops it.

        Of one that was connected to: only the block. Whoever made it says whether it stays.

        Raises:
            MachineError: it has ended.
        """
        await let_stay(self.sandbox_id)
        self._leased, self._detached = False, True

    async def history(self) -> Sequence[dict[str, Any]]:
        """What happened to it: `time`, `what`, `detail`, `outcome`, `seq` of the entry on its log."""
        found: list[dict[str, Any]] = await call("GET", f"/machines/{self.sandbox_id}/history")
        return found

    async def fork(self, name: str) -> str:
        """Make an image of its disk; returns its digest. `create(name)` makes machines of it."""
        found = await call("POST", f"/machines/{self.sandbox_id}/fork", {"name": name})
        return str(found["digest"])

    async def branch(self, n: int = 1, *, names: Sequence[str] = ()) -> Sequence[Self]:
        """Make machines that go on from where this one is now, memory and disk; it runs on itself.

        Args:
            n: how many.
            names: theirs; without, they are temporary, and this program's as with `create`.
        """
        asked = {"count": n, "names": list(names), "leased": not names}
        found = await _begun("branch", self.sandbox_id, asked)
        children = [type(self)(machine) for machine in found["machines"]]
        if not names:
            for child, machine in zip(children, found["machines"], strict=True):
                await hold(machine)
                child._leased = True
        return children

    async def persist(self, name: str) -> None:
        """Give a temporary machine a name; from now on it outlives its stop, and the block it was made in."""
        await call("POST", f"/machines/{self.sandbox_id}/persist", {"name": name})
        self.name, self._leased = name, False
        # One with a name stays anyway, whatever its monitor can read of that.
        with contextlib.suppress(MachineError):
            await let_stay(self.sandbox_id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.name is None and not self._detached:
            await self.kill()
