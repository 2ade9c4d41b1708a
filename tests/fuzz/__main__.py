"""`scripts/fuzz`: every target for some seconds; the input of a finding is left in a directory.

python -m tests.fuzz SECONDS DIRECTORY [SEED]
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

from tests.fuzz.egress import DNS, HELLO, SSE
from tests.fuzz.engine import Finding, fuzz
from tests.fuzz.log import LOG
from tests.fuzz.model import MODEL
from tests.fuzz.native import VERIFY
from tests.fuzz.plan import PLAN
from tests.fuzz.policy import POLICY
from tests.fuzz.reached import AVAILABLE, WHY_NOT
from tests.fuzz.rules import RULES, SIGMA


def main(arguments: list[str]) -> int:
    """0, or 1 when there was a finding, or 2 when this Python cannot."""
    if not AVAILABLE:
        print(f"fuzz: {WHY_NOT}; run 'make setup' with one", file=sys.stderr)
        return 2
    seconds, directory = float(arguments[0]), Path(arguments[1])
    seed = int(arguments[2]) if len(arguments) > 2 else random.randrange(1 << 32)
    failed = False
    targets = [POLICY, PLAN, LOG, VERIFY, HELLO, DNS, SSE, MODEL, RULES, SIGMA]
    if importlib.util.find_spec("capsem") is not None:
        from tests.fuzz.archive import ARCHIVE

        targets.append(ARCHIVE)
    for target in targets:
        try:
            print(f"fuzz      {target.name}, seed {seed}: ", end="", flush=True)
            print(fuzz(target, seed=seed, inputs=sys.maxsize, seconds=seconds), flush=True)
        except Finding as finding:
            failed = True
            directory.mkdir(parents=True, exist_ok=True)
            place = directory / f"{target.name}-{seed}"
            place.write_bytes(finding.data)
            print(f"FINDING\n{finding}\nthe input is in {place}: reduce it and make a test of it", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
