"""The doctor of the guest, run where it must find a lot: outside of a machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AGENT = Path(sys.prefix, "bin/capsem-agent")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run([str(AGENT), "doctor", "--json"], capture_output=True, timeout=200, check=False)
    assert done.returncode == 1, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_it_looks_at_enough_and_names_each(found: dict[str, Any]) -> None:
    names = [(check["group"], check["name"]) for check in found["checks"]]
    assert len(names) >= 150
    assert len(set(names)) == len(names)
    assert len(names) == found["passed"] + found["failed"] + found["skipped"]


def test_it_sees_that_this_is_no_machine(found: dict[str, Any]) -> None:
    """The positive control: what a machine has and this host has not is failed, not passed over."""
    failed = {check["name"]: check["seen"] for check in found["checks"] if check["outcome"] == "failed"}
    for name in (
        "process 1 is the agent",
        "every channel is one of the documented",
        "/ is overlay",
        "what is changed lies over the image, not in it",
    ):
        assert name in failed
