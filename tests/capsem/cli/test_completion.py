"""Completion as a shell asks for it: the program with its variable set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from capsem.host import places
from capsem.vm.lifecycle import State
from tests.capsem.cli.served import capsem
from tests.capsem.processes.service.test_registry import left


def completed(*words: str) -> set[str]:
    """What bash is offered for the last of the words."""
    env = {
        **os.environ, "_CAPSEM_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("capsem", *words)),
        "COMP_CWORD": str(len(words)),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "capsem.cli"], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return {line.partition(",")[2] for line in done.stdout.splitlines() if line}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.asyncio
async def test_a_script_for_each_shell(shell: str) -> None:
    done = await capsem("completion", shell)
    assert done.returncode == 0
    assert b"_CAPSEM_COMPLETE" in done.stdout


@pytest.mark.asyncio
async def test_machines_by_name_and_id_while_the_service_runs(capsem_home: Path) -> None:
    assert completed("stop", "b") == set()
    assert not (capsem_home / "run/service.sock").exists(), "completion starts nothing"
    left("m-00000001", "build", State.STOPPED)
    assert (await capsem("list")).returncode == 0
    assert completed("stop", "b") == {"build"}
    assert completed("exec", "") == {"build", "m-00000001"}
    places.log("m-0badcafe").touch()
    assert completed("stop", "m-") == {"m-00000001"}
    assert completed("timeline", "m-") == {"m-00000001", "m-0badcafe"}
    assert "timeline" in completed("time")
