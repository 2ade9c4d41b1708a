"""Where the demonstration plays: a decoy home, traps on the host's loopback, and what is checked from outside.

Refuses nothing; a statement that does not hold is printed as BROKEN and remembered.

    stage = Stage(folder, capsule)
    stage.check("the commit is there", True)
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import textwrap
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

WIDTH = 78


@dataclass
class Traps:
    """A TCP and a UDP listener on the host's loopback that remember what reached them."""

    tcp: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    dns: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    heard: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dns.bind(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.tcp.accept()
            with connection:
                connection.settimeout(2)
                self.heard.append(("tcp", connection.recv(4096)))

    def _receive(self) -> None:
        while True:
            question, asker = self.dns.recvfrom(4096)
            self.heard.append(("dns", question))
            self.dns.sendto(question[:2] + b"\x81\x83" + question[4:], asker)  # no such name

    def environment(self) -> dict[str, str]:
        """Where the script finds the traps."""
        return {"DEMO_TCP": str(self.tcp.getsockname()[1]), "DEMO_DNS": str(self.dns.getsockname()[1])}

    def questions(self) -> list[bytes]:
        """What was asked of the DNS listener; forgets everything heard."""
        time.sleep(0.3)
        found = [content for kind, content in self.heard if kind == "dns"]
        self.heard.clear()
        return found

    def sprung(self) -> set[str]:
        """Which listeners were reached; forgets what they heard."""
        time.sleep(0.3)
        found = {kind for kind, _ in self.heard}
        self.heard.clear()
        return found


@dataclass
class Stage:
    """Where the story plays."""

    folder: Path
    capsule: Path
    traps: Traps = field(default_factory=Traps)
    failures: list[str] = field(default_factory=list)

    @property
    def project(self) -> Path:
        """The copy of h11."""
        return self.folder / "h11"

    def environment(self) -> dict[str, str]:
        """A decoy home, so that the demonstration touches nothing of the user's."""
        kept = {name: os.environ[name] for name in ("LANG", "TERM") if name in os.environ}
        return {
            **kept,
            "PATH": f"{self.capsule.parent}:{os.environ.get('PATH', os.defpath)}",
            **self.traps.environment(),
            "HOME": str(self.folder / "home"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def show(self, *words: str, cwd: Path | None = None, more: Mapping[str, str] | None = None) -> int:
        """Run a command in the open, as it would be typed; `more` is its environment's."""
        lines = textwrap.wrap(shlex.join(words), WIDTH - 4, break_long_words=False, break_on_hyphens=False)
        print("$ " + " \\\n      ".join(lines) + "\n", flush=True)
        return subprocess.run(
            words,
            cwd=cwd or self.project,
            env={**self.environment(), **(more or {})},
            check=False,
            stdin=subprocess.DEVNULL,
        ).returncode

    def quietly(
        self, *words: str, cwd: Path | None = None, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command, in the project when nothing else is said, without showing it."""
        return subprocess.run(
            words,
            cwd=cwd or self.project,
            env={**self.environment(), **(more or {})},
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def check(self, statement: str, holds: bool) -> None:
        """One fact seen from the host."""
        print(f"  {'holds ' if holds else 'BROKEN'}  {statement}")
        if not holds:
            self.failures.append(statement)


def title(text: str) -> None:
    """A chapter."""
    print(f"\n── {text} {'─' * max(3, WIDTH - 4 - len(text))}\n", flush=True)


def contains(folder: Path, secret: str) -> bool:
    """Whether any file below holds the secret."""
    return any(secret.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
