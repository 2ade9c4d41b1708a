"""`capsule.run` and `capsule.arun`: one command inside a sandbox, as `subprocess.run` would.

The native `capsule run` is started with `posix_spawn` or `vfork`, never with a fork of this process; it
supervises, records and reports. The command dies with this process, even when this one is killed.

Refuses (raises `SandboxError`) when the sandbox refused and nothing ran. A non-zero exit is a result.

    result = capsule.run(["pytest", "-q"], timeout=60)
    if not result.ok: print(result)
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from capsule.errors import CommandFailed, SandboxError
from capsule.sandbox import launcher
from capsule.sdk.asked import argv_of, bytes_of, names_of, place_of, seconds_of, variables_of
from capsule.sdk.result import RunResult

Command = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
FilePath = str | os.PathLike[str]


def run(
    cmd: Command,
    *,
    policy: FilePath | None = None,
    cwd: FilePath | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | str | None = None,  # noqa: A002 - the name subprocess.run has taught everybody
    timeout: float | None = None,
    check: bool = False,
    capture: bool = True,
    log: FilePath | None = None,
    overlay: bool = False,
    allow_degraded: Sequence[str] = (),
) -> RunResult:
    """Run a command inside a sandbox and wait for its end.

    Args:
        cmd: program and arguments; a single string is split as a shell would, but no shell is run.
        policy: a policy file or preset; None for the nearest `capsule.yaml`, else the preset `workspace`.
        cwd: the working directory.
        env: variables added to those the policy passes.
        input: what the command reads on standard input; None for nothing.
        timeout: seconds until everything in the sandbox is killed; the result's cause is then `timeout`.
        check: raise when the command does not exit with 0.
        capture: collect standard output and error; otherwise they go where this program's go.
        log: the audit log; None for the default.
        overlay: let changes land in a layer for review (`capsule diff`).
        allow_degraded: layers that may be missing.

    Raises:
        ArgumentError: an argument cannot be what is meant.
        SandboxError: the sandbox refused or failed; nothing ran, or what ran was killed.
        CommandFailed: with `check`, for any end but exit 0.
    """
    request, argv = _request(cmd, policy, env, timeout, log, overlay, allow_degraded)
    data, directory = bytes_of(input), None if cwd is None else place_of(cwd, "cwd")
    with _Spawn(request, argv) as spawn:
        pipe = subprocess.PIPE if capture else None
        feed = subprocess.DEVNULL if data is None else subprocess.PIPE
        process = subprocess.Popen(
            spawn.line, stdin=feed, stdout=pipe, stderr=pipe, pass_fds=spawn.descriptors, cwd=directory
        )
        spawn.started()
        try:
            stdout, stderr = process.communicate(data)
        except BaseException:
            spawn.stop()
            process.wait()
            raise
        return spawn.result(process.returncode, stdout or b"", stderr or b"", check=check)


async def arun(
    cmd: Command,
    *,
    policy: FilePath | None = None,
    cwd: FilePath | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | str | None = None,  # noqa: A002 - as for `run`
    timeout: float | None = None,
    check: bool = False,
    capture: bool = True,
    log: FilePath | None = None,
    overlay: bool = False,
    allow_degraded: Sequence[str] = (),
) -> RunResult:
    """`run` for coroutines: the same arguments, result and errors. Cancelling it kills the sandbox."""
    request, argv = _request(cmd, policy, env, timeout, log, overlay, allow_degraded)
    data, directory = bytes_of(input), None if cwd is None else place_of(cwd, "cwd")
    with _Spawn(request, argv) as spawn:
        pipe = subprocess.PIPE if capture else None
        feed = subprocess.DEVNULL if data is None else subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *spawn.line, stdin=feed, stdout=pipe, stderr=pipe, pass_fds=spawn.descriptors, cwd=directory
        )
        spawn.started()
        try:
            stdout, stderr = await process.communicate(data)
        except BaseException:
            spawn.stop()
            await process.wait()
            raise
        return spawn.result(process.returncode or 0, stdout or b"", stderr or b"", check=check)


class _Spawn:
    """The descriptors of one `capsule run`: its report in memory, and the connection it dies with."""

    def __init__(self, request: launcher.Request, argv: Sequence[str]) -> None:
        self._report: IO[bytes] = os.fdopen(os.memfd_create("capsule-report", os.MFD_CLOEXEC), "rb")
        self._ours, self._theirs = socket.socketpair()
        self.descriptors = (self._report.fileno(), self._theirs.fileno())
        options = ("--report-fd", str(self.descriptors[0]), "--control-fd", str(self.descriptors[1]))
        self.line = launcher.command(request, argv, *options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._theirs.close()
        self._report.close()

    def started(self) -> None:
        """The native side has its copies."""
        self._theirs.close()

    def stop(self) -> None:
        """End the sandbox, if it has not ended."""
        self._ours.close()

    def result(self, status: int, stdout: bytes, stderr: bytes, *, check: bool) -> RunResult:
        """Read the report and judge by it, not by the exit status, which a command can choose."""
        self._report.seek(0)
        text = self._report.read()
        if not text.strip():
            said = stderr.decode("utf-8", "replace").strip()[-2000:]
            raise SandboxError(
                f"the sandbox left no report (exit {status}): {said}", next_step="run `capsule doctor`"
            )
        result = RunResult.from_report(text, stdout, stderr)
        if result.exit.cause in {"refused", "failed"}:
            raise SandboxError(
                f"the sandbox {result.exit.cause}: {result.exit.reason or 'no reason was given'}",
                next_step="run `capsule doctor`, or `capsule policy check`",
            )
        if check and not result.ok:
            raise CommandFailed(str(result), result=result, next_step="see .result for its output")
        return result


def _request(  # noqa: PLR0917 - the two callers pass their own arguments on
    cmd: Command,
    policy: FilePath | None,
    env: Mapping[str, str] | None,
    timeout: float | None,
    log: FilePath | None,
    overlay: bool,
    allow_degraded: Sequence[str],
) -> tuple[launcher.Request, list[str]]:
    request = launcher.Request(
        policy=policy_reference(policy),
        log=None if log is None else absolute(log, "log"),
        env=variables_of(env),
        timeout=seconds_of(timeout),
        overlay=overlay,
        allow_degraded=names_of(allow_degraded, "allow_degraded"),
    )
    return request, argv_of(cmd)


def policy_reference(policy: FilePath | None) -> str | None:
    """A policy as sandboxes are keyed by it: files absolute, preset names as they are."""
    if policy is None:
        return None
    text = place_of(policy, "policy")
    if "/" in text or text.endswith((".yaml", ".yml")) or Path(text).is_file():
        return str(Path(text).absolute())
    return text


def absolute(path: FilePath, name: str) -> str:
    """Options name files from this program's directory, whatever directory the command gets."""
    return str(Path(place_of(path, name)).absolute())
