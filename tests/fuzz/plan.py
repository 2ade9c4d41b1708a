"""The plan's reader in Python as a target: bytes → a plan that stays what it is, or `PlanError`.

Most of the reader is compiled code that tells no lines: the place and kind of each refusal guide instead.

    fuzz(PLAN, seed=1, inputs=1000, seconds=5)
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path

from capsule.errors import PlanError
from capsule.sandbox.plan import decode_plan, encode_plan
from tests.fuzz.engine import Target

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "plan"
_PLACE = re.compile(r"`[^`$]*`|[0-9]+|'[^']*'")


def check(data: bytes) -> Iterable[Hashable]:
    """Read `data`; what is read has to survive writing."""
    try:
        plan = decode_plan(data)
    except PlanError as error:
        return (_PLACE.sub("", error.message)[:160],)
    written = encode_plan(plan)
    assert decode_plan(written) == plan, "the plan is not what it was when it is read again"
    assert encode_plan(decode_plan(written)) == written, "written in two ways"
    return ("a plan", len(plan.filesystem.read).bit_length(), len(plan.network.ports).bit_length())


PLAN = Target(
    "plan",
    check,
    tuple(path.read_bytes() for path in sorted(VECTORS.glob("good/*.json"))),
    ("capsule/sandbox/plan.py", "/json/"),
    (b'"', b"{}", b"[]", b"true", b"1.5", b"18446744073709551616", b'"\\ud800"', b",", b'":'),
)
