"""The warm sandboxes of this process: one for each policy, tool with overrides, working directory and log.

A sandbox is made when it is first needed, and again when it has ended or a file of its policy has changed
since. It is shared by all threads and event loops, ends with the interpreter, and is never used by a
forked copy of it.

    session = POOL.session(Key.of(policy=None, tool="fetch", cwd=None, log=None))
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capsule.sandbox import launcher
from capsule.sdk import inside
from capsule.sdk.session import Session

_FILE: Final = "capsule.yaml"


@dataclass(frozen=True, slots=True)
class Key:
    """What makes two sandboxes the same.

    Attributes:
        policy: a file's absolute path, a preset's name, or None for the nearest `capsule.yaml`.
        tool: the tool, when the policy has overrides for it.
        cwd: the working directory.
        log: the log's absolute path, or None for the default.
    """

    policy: str | None
    tool: str | None
    cwd: str
    log: str | None


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a policy's files said, and how to notice that they have changed."""

    tools: frozenset[str]
    stamps: tuple[tuple[str, int, int, int], ...]

    @property
    def current(self) -> bool:
        return all(stamp == _stamp(stamp[0]) for stamp in self.stamps)


class Pool:
    """See the module."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._making: dict[Key, threading.Lock] = {}
        self._sessions: dict[Key, tuple[Session, _Facts]] = {}
        self._facts: dict[tuple[str | None, str], _Facts] = {}

    def key(self, policy: str | None, tool: str, log: str | None = None) -> Key:
        """The sandbox a tool runs in when it is called from the present directory."""
        cwd = os.getcwd()  # noqa: PTH109 - on every call's path, where a Path costs as much as the rest
        facts = self._known(policy, cwd)
        return Key(policy, tool if tool in facts.tools else None, cwd, log)

    def session(self, key: Key) -> Session:
        """The warm sandbox for `key`, made now if need be.

        Raises:
            SandboxError: it cannot be started.
            PolicyError: the policy is not valid.
        """
        if (ready := self.ready(key)) is not None:
            return ready
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            if (ready := self.ready(key)) is not None:
                return ready
            if (old := self._sessions.pop(key, None)) is not None:
                old[0].close(now=not old[0].usable)
            facts = self._known(key.policy, key.cwd)
            session = start(key, facts.tools)
            self._sessions[key] = (session, facts)
            return session

    def ready(self, key: Key) -> Session | None:
        """The warm sandbox for `key`, if there is one and its policy is as `key()` has just found it."""
        found = self._sessions.get(key)
        if found is None or found[1] is not self._facts.get((key.policy, key.cwd)) or not found[0].usable:
            return None
        return found[0]

    def tools(self, policy: str | None, cwd: str) -> frozenset[str]:
        """The tools a policy has overrides for."""
        return self._known(policy, cwd).tools

    def close(self) -> None:
        """End every warm sandbox of this process."""
        with self._lock:
            sessions, self._sessions = self._sessions, {}
        for session, _ in sessions.values():
            session.close()

    def _known(self, policy: str | None, cwd: str) -> _Facts:
        facts = self._facts.get((policy, cwd))
        if facts is not None and facts.current:
            return facts
        found = _read(policy, cwd)
        with self._lock:
            # Threads that read at once must agree on one: a sandbox is current while its facts are these very ones.
            present = self._facts.get((policy, cwd))
            if present == found:
                return present
            self._facts[policy, cwd] = found
        return found


def start(key: Key, tools: frozenset[str]) -> Session:
    """A new sandbox for `key`."""
    request = launcher.Request(
        policy=key.policy, log=key.log, tool=key.tool, read=tuple(launcher.interpreter_reads())
    )
    return Session.start(request, inside.Place(key.policy, key.tool, tools), key.cwd)


def _read(policy: str | None, cwd: str) -> _Facts:
    """Read a policy's files: which tools they name."""
    candidates = [] if policy is not None else list(_upward(cwd))
    reference = policy or next((path for path in candidates if Path(path).is_file()), None)
    if reference is None:
        return _Facts(frozenset(), tuple(_stamp(path) for path in candidates))
    from capsule.cli.files import load_policy

    found = load_policy(reference)
    files = [source.path for source in found.sources if not source.path.startswith("preset:")]
    nearer = candidates[: candidates.index(reference)] if candidates else []
    return _Facts(frozenset(found.tools), tuple(_stamp(path) for path in dict.fromkeys([*nearer, *files])))


def _upward(cwd: str) -> list[str]:
    """Where a policy is looked for: in `cwd` and above, no further than the repository's root."""
    found: list[str] = []
    for directory in [Path(cwd), *Path(cwd).parents]:
        found.append(str(directory / _FILE))
        if (directory / ".git").exists():
            return found
    return found


def _stamp(path: str) -> tuple[str, int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - as above
    except OSError:
        return (path, 0, 0, 0)
    return (path, status.st_mtime_ns, status.st_ino, status.st_size)


POOL: Final = Pool()
