"""The verbs of the log as a shell user calls them, for the tests beside this file."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Log:
    """One log, and the binary that writes and reads it."""

    binary: Path
    path: Path

    def call(
        self, *arguments: str | Path, stdin: bytes = b"", variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.binary, *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **(variables or {})},
            timeout=120,
            check=False,
        )
        out, err = (text.decode("utf-8", "backslashreplace") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def record(self, entries: Iterable[dict[str, Any]] = ()) -> subprocess.CompletedProcess[str]:
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        return self.call("record", "--log", self.path, "--json", stdin=lines.encode())

    def fill(self, count: int = 3) -> None:
        done = self.record({"type": "exec", "run": "r-1", "n": n} for n in range(count))
        assert done.returncode == 0, done.stderr

    def verify(self, *arguments: str | Path, **variables: str) -> tuple[str, int, dict[str, Any]]:
        done = self.call("verify", self.path, "--json", *arguments, variables=variables)
        report = json.loads(done.stdout)
        assert report["exit"] == done.returncode
        return report["outcome"], done.returncode, report

    def text(self, *arguments: str | Path) -> str:
        done = self.call("log", self.path, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout
