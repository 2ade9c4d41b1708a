"""A machine of one command, without QEMU: its end as its client sees it. Whole machines are in tests/vm."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capsem.cli import temporary
from capsem.cli.asking import asked_ahead, machine_body
from capsem.errors import NotFoundError, UsageError
from capsem.host import places
from capsem.host.lease import Lease
from capsem.host.service import call
from capsem.processes.monitor.door import Door
from capsem.wire.monitor import Exec
from tests.capsem.processes.monitor.standing import ID, standing

OPTIONS: dict[str, Any] = {"cpus": None, "memory": None, "disk": None, "env": (), "rules": ()}


def test_the_machine_is_asked_for_before_what_waits_for_it_is_loaded() -> None:
    late = ["asyncio", "msgspec", "capsem.cli.attach", "capsem.host.service", "capsem.wire.monitor"]
    code = (
        "import sys, capsem.cli.main, capsem.cli.run, capsem.host.question; "
        f"print(*set({late!r}) & set(sys.modules)); import asyncio; print(*set({late!r}) & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "asyncio"]


@pytest.mark.usefixtures("capsem_home")
def test_what_has_to_be_looked_at_first_is_not_asked_ahead(tmp_path: Path) -> None:
    body = machine_body(image="x", **OPTIONS)
    assert asked_ahead(body) is None, "no service runs"
    asyncio.run(call("GET", "/machines"))
    assert asked_ahead({**body, "workspace": str(tmp_path)}) is None
    assert asked_ahead({**body, "network": {"egress": {"secrets": [{"name": "key"}]}}}) is None
    sent = asked_ahead(body)
    assert sent is not None, "the positive control"
    with pytest.raises(NotFoundError, match="'x'"):
        asyncio.run(temporary.in_temporary_machine(body, Exec(argv=("true",)), sent=sent))


@pytest.mark.usefixtures("capsem_home")
def test_nothing_is_taken_over_where_there_is_no_copy() -> None:
    body = machine_body(image="x", **OPTIONS)
    for one in (body, {**body, "workspace": "/srv", "share": "live"}):
        with pytest.raises(UsageError, match="--apply with"):
            asyncio.run(temporary.in_temporary_machine(one, Exec(argv=("true",)), apply=True))


@pytest.mark.asyncio
@pytest.mark.usefixtures("capsem_home")
async def test_a_monitor_that_does_not_answer_is_left_to_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "_END_SECONDS", 0.1)
    async with standing(tmp_path) as machine:
        place = places.run() / "leased.sock"
        async with Door(machine, place, leased=True):
            lease = Lease()
            await lease.take({"socket": str(place)})
            # There is no QEMU here, so it never ends. The service knows no such machine, and says so.
            with pytest.raises(NotFoundError):
                await temporary._ended(ID, lease)
            await lease.close()
            machine.ended.set()
