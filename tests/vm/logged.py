"""The log of a session, read while it may be written.

logged(home.info("one")["log"])       # its lines, as they are decoded
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def logged(log: str | Path) -> list[dict[str, Any]]:
    """The whole lines of a log; one that is being written is not there yet."""
    whole, _, _ = Path(log).read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]
