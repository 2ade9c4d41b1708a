from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.host.plans import write_plan
from capsem.processes.monitor.life import _while_asked_for, live, say
from capsem.vm.plan import work_out
from capsem.vm.record import Record, encode
from capsem.vm.spec import MachineSpec, RuleText
from capsem.wire.nursery import Begin
from tests.capsem.processes.monitor.standing import ID
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = pytest.mark.usefixtures("capsem_home")


@pytest.mark.parametrize("kind", ["session", "template"])
def test_what_goes_wrong_is_told_to_the_service(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told, ready = os.pipe()
    (tmp_path / "session.json").write_text("{}")
    (tmp_path / "plan.json").write_text("{}")
    if kind == "session":
        assert live(Begin(session=str(tmp_path)), ready, memory=None, state=None) != 0
        said = json.loads(os.read(told, 4096))
        assert (said["kind"], said["type"]) == ("MachineError", "failed")
        assert "no record of a machine" in said["message"]
        assert os.read(told, 1) == b"", "nothing follows"
        assert "no record of a machine" in capfd.readouterr().err
    else:
        with pytest.raises(Exception, match="plan"):
            live(Begin(template=str(tmp_path / "plan")), ready, memory=None, state=None)
        os.close(ready)
    os.close(told)


def test_rules_that_are_none_are_their_author_s_to_correct(tmp_path: Path) -> None:
    spec = MachineSpec(rules=(RuleText("rules.yaml", "no rules"),))
    record = Record(id=ID, spec=spec, digest=IMAGE.digest, created="2026-01-01T00:00:00Z")
    (tmp_path / "session.json").write_bytes(encode(record))
    write_plan(tmp_path, work_out(spec, IMAGE, FACTS))
    told, ready = os.pipe()
    assert live(Begin(session=str(tmp_path)), ready, memory=None, state=None) == 2
    said = json.loads(os.read(told, 4096))
    os.close(told)
    assert said["kind"] == "UsageError"
    assert said["message"].startswith("rules.yaml:1:1: ")


@pytest.mark.asyncio
async def test_a_start_that_nobody_waits_for_any_more_is_undone() -> None:
    undone: list[str] = []

    async def undo(why: str) -> None:
        undone.append(why)

    async def forever() -> None:
        await asyncio.Event().wait()

    told, ready = os.pipe()
    starting = asyncio.create_task(_while_asked_for(forever(), ready, past=lambda: False, undo=undo))
    await asyncio.sleep(0)
    assert not starting.done()
    os.close(told)
    with pytest.raises(MachineError, match="the service ended while it started"):
        await starting
    assert undone == ["the service ended while it started"]
    say(ready, b"ready\n")


@pytest.mark.asyncio
async def test_what_would_be_lost_is_brought_to_its_end() -> None:
    async def never(why: str) -> None:
        raise AssertionError(why)

    told, ready = os.pipe()
    os.close(told)
    on, done = asyncio.Event(), False

    async def work() -> None:
        nonlocal done
        await on.wait()
        done = True

    asyncio.get_running_loop().call_later(0.2, on.set)
    await _while_asked_for(work(), ready, past=lambda: True, undo=never)
    assert done
    os.close(ready)


def test_a_second_monitor_is_refused_the_directory(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from capsem.host.hold import take; take(Path(sys.argv[1])); "
        "print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"1\n"
        told, ready = os.pipe()
        assert live(Begin(session=str(tmp_path)), ready, memory=None, state=None) != 0
        assert f"another monitor (process {first.pid})" in json.loads(os.read(told, 4096))["message"]
        os.close(told)
        first.kill()
