"""The log's verifier in Rust as a target: for any bytes it comes to the outcome that the one in Python comes to.

Each input is one process of the real binary; what guides is the Python reader, which knows the same format. Refused:
an end by a signal or a panic, an answer that is no JSON, and another outcome than Python's.

    fuzz(VERIFY, seed=1, inputs=300, seconds=3)
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Hashable, Iterable
from pathlib import Path

from capsule.audit.verifier import verify
from tests.audit.forge import Signer
from tests.fuzz.engine import Target
from tests.fuzz.log import KEY, LOG

BINARY = Path(os.environ.get("CAPSULE_BINARY") or Path(sysconfig.get_path("scripts")) / "capsule")


def check(data: bytes) -> Iterable[Hashable]:
    """Let both verify the same bytes."""
    assert KEY is not None, "no key"
    report = verify([data], key=KEY)
    with tempfile.NamedTemporaryFile(suffix=".log") as file:
        file.write(data)
        file.flush()
        argv = [str(BINARY), "verify", file.name, "--key", Signer().vkey, "--no-memory", "--json"]
        done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert 0 <= done.returncode < 64, f"exit {done.returncode}: {done.stderr[-400:]!r}"
    told = json.loads(done.stdout)
    assert told["outcome"] == str(report.outcome), f"{told['outcome']} ({told}), and Python says {report}"
    return (report.outcome, done.returncode)


VERIFY = Target("verify", check, LOG.seeds, LOG.files, LOG.words, LOG.repair)
