"""Stand-ins for the binary under test, as far from a sandbox as can be: the corpus must see through them."""

from __future__ import annotations

import sys
from pathlib import Path

# Understands the words of `capsule run`, confines nothing, and claims that all was well.
OPEN = """#!{python} -I
import json, os, subprocess, sys
words = sys.argv[1:]
if words[0] == "verify":
    sys.exit(0)
command = words[words.index("--") + 1:]
report = int(words[words.index("--report-fd") + 1])
log = words[words.index("--log") + 1] if "--log" in words else None
if {refuse!r}:
    os.write(report, json.dumps({{"exit": {{"cause": "refused", "reason": {refuse!r}}}}}).encode())
    sys.exit(125)
if log and not os.path.lexists(log):
    with open(log, "w") as file:
        file.write(" ".join(command))
code = subprocess.call(command)
os.write(report, json.dumps({{"exit": {{"cause": "exited", "code": code}}, "log": {{"path": log}}}}).encode())
sys.exit(code)
"""


def launcher(folder: Path, refuse: str = "") -> str:
    """A `capsule` that runs everything without a sandbox, or one that refuses everything for a reason."""
    path = folder / "capsule"
    path.write_text(OPEN.format(python=sys.executable, refuse=refuse))
    path.chmod(0o755)
    return str(path)
