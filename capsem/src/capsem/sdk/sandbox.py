"""`Sandbox`: `AsyncSandbox` for programs without an event loop; the same names, without `await`.

Refuses to be used inside a callback of its own.

    with Sandbox.create() as box:
        for piece in box.commands.stream("make"):
            print(piece.text, end="")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from capsem.sdk.async_sandbox import AsyncSandbox, by_handle
from capsem.sdk.async_sandbox import Commands as AsyncCommands
from capsem.sdk.command import CommandHandle as AsyncHandle
from capsem.sdk.command import CommandResult, OnText, Piece, ProcessInfo
from capsem.sdk.files import EntryInfo
from capsem.sdk.files import Files as AsyncFiles
from capsem.sdk.loop import LOOP
from capsem.vm.bounds import DEFAULT_DISK

if TYPE_CHECKING:
    from capsem.host.snapshots import Snapshot
    from capsem.sdk.evidence import Evidence
    from capsem.sdk.pty import Pty
    from capsem.sdk.watching import WatchHandle
    from capsem.sdk.workspace import Applied, AsyncWorkspace
    from capsem.workspace.tree import Difference


class CommandHandle:
    """A command that was started in the background, or is attended to."""

    def __init__(self, handle: AsyncHandle) -> None:
        self._handle = handle
        self.pid = handle.pid

    def send_stdin(self, data: str | bytes) -> None:
        """More input."""
        LOOP.run(self._handle.send_stdin(data))

    def close_stdin(self) -> None:
        """There is no more input."""
        LOOP.run(self._handle.close_stdin())

    def send_signal(self, number: int) -> None:
        """A signal to its process group."""
        LOOP.run(self._handle.send_signal(number))

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        LOOP.run(self._handle.kill())

    def disconnect(self) -> None:
        """Leave it, and let it run on; `commands.connect(pid)` attends to it again."""
        LOOP.run(self._handle.disconnect())

    def wait(self, *, check: bool = False) -> CommandResult:
        """How it ended."""
        return LOOP.run(self._handle.wait(check=check))


class Commands:
    """Commands in one machine."""

    def __init__(self, commands: AsyncCommands) -> None:
        self._commands = commands

    @overload
    def run(
        self, cmd: str | Sequence[str], *, background: Literal[False] = ..., envs: Mapping[str, str] | None = ...,
        cwd: str | None = ..., user: int | None = ..., stdin: str | bytes | None = ..., timeout: float | None = ...,
        on_stdout: OnText | None = ..., on_stderr: OnText | None = ..., check: bool = ...,
    ) -> CommandResult: ...  # fmt: skip

    @overload
    def run(
        self, cmd: str | Sequence[str], *, background: Literal[True], envs: Mapping[str, str] | None = ...,
        cwd: str | None = ..., user: int | None = ..., timeout: float | None = ...,
        on_stdout: OnText | None = ..., on_stderr: OnText | None = ...,
    ) -> CommandHandle: ...  # fmt: skip

    def run(
        self, cmd: str | Sequence[str], *, background: bool = False, envs: Mapping[str, str] | None = None,
        cwd: str | None = None, user: int | None = None, stdin: str | bytes | None = None,
        timeout: float | None = 60.0, on_stdout: OnText | None = None, on_stderr: OnText | None = None,
        check: bool = False,
    ) -> CommandResult | CommandHandle:  # fmt: skip
        """Run a command; arguments as in `AsyncSandbox`. Callbacks are called on the SDK's thread."""
        if background:
            by_handle(stdin, check=check)
            return CommandHandle(
                LOOP.run(
                    self._commands.run(
                        cmd,
                        background=True,
                        envs=envs,
                        cwd=cwd,
                        user=user,
                        timeout=timeout,
                        on_stdout=on_stdout,
                        on_stderr=on_stderr,
                    )
                )
            )
        return LOOP.run(
            self._commands.run(
                cmd,
                envs=envs,
                cwd=cwd,
                user=user,
                stdin=stdin,
                timeout=timeout,
                on_stdout=on_stdout,
                on_stderr=on_stderr,
                check=check,
            )
        )

    def list(self) -> list[ProcessInfo]:
        """The commands and terminals that run, whoever began them."""
        return LOOP.run(self._commands.list())

    def connect(
        self, pid: int, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None
    ) -> CommandHandle:
        """Attend to a command that runs."""
        return CommandHandle(LOOP.run(self._commands.connect(pid, on_stdout=on_stdout, on_stderr=on_stderr)))

    def send_stdin(self, pid: int, data: str | bytes) -> None:
        """More input for a command that runs."""
        LOOP.run(self._commands.send_stdin(pid, data))

    def close_stdin(self, pid: int) -> None:
        """There is no more input for a command that runs."""
        LOOP.run(self._commands.close_stdin(pid))

    def kill(self, pid: int) -> bool:
        """SIGKILL to a command that runs; False when there is none."""
        return LOOP.run(self._commands.kill(pid))

    def stream(
        self, cmd: str | Sequence[str], *, envs: Mapping[str, str] | None = None, cwd: str | None = None,
        user: int | None = None, timeout: float | None = 60.0,
    ) -> Iterator[Piece]:  # fmt: skip
        """Run a command and give its output as it comes; leaving the loop kills it."""
        yield from LOOP.each(self._commands.stream(cmd, envs=envs, cwd=cwd, user=user, timeout=timeout))


class Files:
    """Files of one machine."""

    def __init__(self, files: AsyncFiles) -> None:
        self._files = files

    @overload
    def read(self, path: str, *, format: Literal["text"] = ...) -> str: ...

    @overload
    def read(self, path: str, *, format: Literal["bytes"]) -> bytes: ...

    @overload
    def read(self, path: str, *, format: Literal["stream"]) -> Iterator[bytes]: ...

    def read(
        self,
        path: str,
        *,
        format: Literal["text", "bytes", "stream"] = "text",  # noqa: A002
    ) -> str | bytes | Iterator[bytes]:
        """The content of a file."""
        if format == "stream":
            return self._streamed(path)
        if format == "bytes":
            return LOOP.run(self._files.read(path, format="bytes"))
        return LOOP.run(self._files.read(path))

    def _streamed(self, path: str) -> Iterator[bytes]:
        yield from LOOP.each(LOOP.run(self._files.read(path, format="stream")))

    def write(self, path: str, data: str | bytes, *, mode: int | None = None) -> None:
        """Make a file, or put other content into it."""
        LOOP.run(self._files.write(path, data, mode=mode))

    def write_files(self, files: Mapping[str, str | bytes]) -> None:
        """Make several files: content by path."""
        LOOP.run(self._files.write_files(files))

    def list(self, path: str) -> Sequence[EntryInfo]:
        """What is in a directory."""
        return LOOP.run(self._files.list(path))

    def get_info(self, path: str) -> EntryInfo:
        """What a name is."""
        return LOOP.run(self._files.get_info(path))

    def rename(self, old_path: str, new_path: str) -> EntryInfo:
        """Give a file or a directory another name."""
        return LOOP.run(self._files.rename(old_path, new_path))

    def exists(self, path: str) -> bool:
        """Whether there is something of that name."""
        return LOOP.run(self._files.exists(path))

    def make_dir(self, path: str) -> bool:
        """Make a directory and its parents; False when it was there."""
        return LOOP.run(self._files.make_dir(path))

    def watch_dir(self, path: str, *, recursive: bool = False, user: int | None = None) -> WatchHandle:
        """Watch a directory: `get_new_events()` of the handle has what changed."""
        from capsem.sdk.watching import WatchHandle

        return WatchHandle(LOOP.run(self._files.watch_dir(path, recursive=recursive, user=user)))

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with everything in it."""
        LOOP.run(self._files.remove(path))

    def copy_in(self, source: str | Path, path: str) -> Sequence[tuple[str, str]]:
        """Copy a directory of the host into the machine; returns what was left out, and why."""
        return LOOP.run(self._files.copy_in(source, path))

    def copy_out(self, path: str, target: str | Path) -> Sequence[tuple[str, str]]:
        """Copy a directory of the machine to the host; returns what was left out, and why."""
        return LOOP.run(self._files.copy_out(path, target))


class Workspace:
    """The workspace of one machine; see `capsem.sdk.workspace`."""

    def __init__(self, workspace: AsyncWorkspace) -> None:
        self._workspace = workspace

    def diff(self) -> list[Difference]:
        """What the machine changed since the copy."""
        return LOOP.run(self._workspace.diff())

    def apply(self, *paths: str, skip: bool = False, dry_run: bool = False) -> Applied:
        """Take over what changed, all of it or nothing."""
        return LOOP.run(self._workspace.apply(*paths, skip=skip, dry_run=dry_run))

    def snapshot(self, name: str | None = None) -> Snapshot:
        """Keep what the machine has now."""
        return LOOP.run(self._workspace.snapshot(name))

    def snapshots(self) -> Sequence[Snapshot]:
        """What is kept, oldest first."""
        return self._workspace.snapshots()

    def revert(self, name: str) -> None:
        """Put back what a snapshot has; `base` is what was copied."""
        LOOP.run(self._workspace.revert(name))

    def remove_snapshot(self, name: str) -> None:
        """Remove one."""
        self._workspace.remove_snapshot(name)


class Sandbox:
    """One machine.

    Attributes:
        sandbox_id: its id.
        commands: what runs in it.
        files: what is in it.
    """

    def __init__(self, box: AsyncSandbox) -> None:
        self._box = box
        self.sandbox_id = box.sandbox_id
        self.name = box.name
        self.log = box.log
        self.commands = Commands(box.commands)
        self.files = Files(box.files)

    @classmethod
    def create(
        cls, image: str | None = None, *, name: str | None = None, cpus: int | None = None,
        memory_mib: int | None = None, disk_mib: int | None = DEFAULT_DISK, envs: Mapping[str, str] | None = None,
        rules: Sequence[str | Path] = (), workspace: str | Path | None = None, policy: str | Path | None = None,
        share: Literal["copy", "live"] = "copy", mcp: str | Path | None = None, detached: bool = False,
        timeout: float | None = None,
    ) -> Self:  # fmt: skip
        """Make a machine and start it; arguments as in `AsyncSandbox.create`."""
        made = AsyncSandbox.create(
            image, name=name, cpus=cpus, memory_mib=memory_mib, disk_mib=disk_mib, envs=envs, rules=rules,
            workspace=workspace, policy=policy, share=share, mcp=mcp, detached=detached, timeout=timeout,
        )  # fmt: skip
        return cls(LOOP.run(made))

    @property
    def evidence(self) -> Evidence:
        """What is recorded of it: its story, SQL over it, the verifier. It stays when the machine is gone."""
        from capsem.sdk.evidence import Evidence

        return Evidence(self._box.evidence)

    @property
    def pty(self) -> Pty:
        """Terminals in it."""
        from capsem.sdk.pty import Pty

        return Pty(self._box.pty)

    @property
    def workspace(self) -> Workspace:
        """Its workspace; a machine without one refuses what is asked of it."""
        return Workspace(self._box.workspace)

    @classmethod
    def connect(cls, sandbox_id: str) -> Self:
        """A machine that is there, by id or name; one that stands is started."""
        return cls(LOOP.run(AsyncSandbox.connect(sandbox_id)))

    def get_info(self) -> dict[str, Any]:
        """What is known of it."""
        return LOOP.run(self._box.get_info())

    def is_running(self) -> bool:
        """Whether its monitor answers."""
        return LOOP.run(self._box.is_running())

    @classmethod
    def list(cls) -> Sequence[Mapping[str, Any]]:
        """Every machine of this user."""
        return LOOP.run(AsyncSandbox.list())

    def set_timeout(self, timeout: float | None) -> None:
        """Have it end so many seconds from now; None: when it is ended."""
        LOOP.run(self._box.set_timeout(timeout))

    def kill(self) -> bool:
        """End and remove it; False when it was gone already."""
        return LOOP.run(self._box.kill())

    def stop(self) -> None:
        """End it in order; one with a name stays."""
        LOOP.run(self._box.stop())

    def restart(self) -> None:
        """End it in order and start it again, from its disk."""
        LOOP.run(self._box.restart())

    def pause(self) -> None:
        """Keep its memory and devices on the host's disk, and end it."""
        LOOP.run(self._box.pause())

    def resume(self) -> None:
        """Go on from where it was paused."""
        LOOP.run(self._box.resume())

    def history(self) -> Sequence[dict[str, Any]]:
        """What happened to it, from its log."""
        return LOOP.run(self._box.history())

    def fork(self, name: str) -> str:
        """Make an image of its disk; returns its digest."""
        return LOOP.run(self._box.fork(name))

    def branch(self, n: int = 1, *, names: Sequence[str] = ()) -> Sequence[Sandbox]:
        """Make machines that go on from where this one is now; it runs on itself."""
        return [Sandbox(box) for box in LOOP.run(self._box.branch(n, names=names))]

    def detach(self) -> None:
        """From now on it outlives this program and its block; see `AsyncSandbox.detach`."""
        LOOP.run(self._box.detach())

    def persist(self, name: str) -> None:
        """Give a temporary machine a name; from now on it outlives its stop, and the block it was made in."""
        LOOP.run(self._box.persist(name))
        self.name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        LOOP.run(self._box.__aexit__(kind, error, trace))
