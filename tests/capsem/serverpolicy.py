"""A policy under which a server written in Python runs with this interpreter, wherever that is."""

from __future__ import annotations

import json
from pathlib import Path

from capsule.sandbox.launcher import interpreter_reads


def server_policy(directory: Path, more: str = "") -> Path:
    """`readonly`, and this interpreter."""
    place = directory / "server.yaml"
    listed = json.dumps(interpreter_reads())
    place.write_text(
        "version: 1\nname: server\nextends: [readonly]\n"
        f"filesystem:\n  read: {listed}\n  execute: {listed}\n{more}"
    )
    return place
