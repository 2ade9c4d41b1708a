"""A workspace, an installation and the outside, in which a test of hosts runs a script under a policy.

site.run(f"{CURL} https://a.example/x", site.outside.network("a.example"))
site.of("egress.http")
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.native.egress_outside import Installation, Outside, Request
from tests.native.running import Capsule, Ran

CURL = "curl -sS -m 20"


class Site:
    """A workspace, an installation and the outside."""

    def __init__(self, capsule: Capsule, installation: Installation, outside: Outside) -> None:
        self.capsule, self.installation, self.outside = capsule, installation, outside
        self.before = len(outside.requests)

    def run(self, script: str, policy: str, **more: Any) -> Ran:
        """A shell's script under a policy."""
        options = self.capsule.policy(policy)
        return self.capsule.run("/bin/sh", "-c", script, options=options, **more)

    def start(self, script: str, policy: str) -> subprocess.Popen[str]:
        """The same, while the test goes on."""
        return subprocess.Popen(
            self.capsule.command("/bin/sh", "-c", script, options=self.capsule.policy(policy)),
            cwd=self.capsule.workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def arrived(self) -> list[Request]:
        """What reached the outside since this test began."""
        return self.outside.requests[self.before :]

    def log(self) -> str:
        return (self.capsule.workspace / "capsule.log").read_text()

    def of(self, kind: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.log().splitlines()]
        return [entry for entry in entries if entry.get("type") == kind]


def tell(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("capsule"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(wanted: Any, seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := wanted()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found
