"""A layer as overlayfs would leave it, made by hand."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsule.overlay.layer import Overlays


class Made:
    """A root on the host, and the layer of a run over it."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.state = base / "capsule"
        self.directory = self.state / "overlays" / "r-1"
        self.upper = self.directory / "0" / "upper"
        self.root.mkdir()
        self.upper.mkdir(parents=True)
        (self.directory / "0" / "work" / "work").mkdir(parents=True)
        (self.directory / "0" / "work" / "work").chmod(0)
        self.guards: list[dict[str, str]] = []

    def begin(self) -> None:
        """Write the manifest: what the host changes from now on is later than the run."""
        time.sleep(0.02)
        manifest: dict[str, Any] = {
            "overlay": 2, "run": "r-1", "when": "now", "command": ["x"], "policy": "p",
            "roots": [{"path": str(self.root), "layer": 0}], "guards": self.guards,
        }  # fmt: skip
        (self.directory / "0" / "before").write_bytes(b"".join(map(self._record, self.root.rglob("*"))))
        (self.directory / "manifest.json").write_text(json.dumps(manifest))
        time.sleep(0.02)

    def _record(self, path: Path) -> bytes:
        found = path.lstat()
        kind = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l"}.get(stat.S_IFMT(found.st_mode), "s")
        name = os.fsencode(path.relative_to(self.root))
        return f"{kind} {found.st_ino} {found.st_ctime_ns} - ".encode() + name + b"\0"

    def whiteout(self, name: str) -> None:
        os.mknod(self.upper / name, stat.S_IFCHR, 0)

    def overlays(self) -> Overlays:
        return Overlays(self.state)

    def told(self) -> dict[str, str]:
        """What each changed name is."""
        with self.overlays().hold(None) as overlay:
            return {change.path: change.action for _, change in overlay.changes()}


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Made]:
    return lambda: Made(tmp_path)
