from __future__ import annotations

import os

import pytest

from capsem.errors import ConflictError, NotFoundError, UsageError
from capsem.host import places
from capsem.processes.service.known import Known
from capsem.vm.record import Record, decode
from capsem.vm.spec import MachineSpec

pytestmark = [pytest.mark.usefixtures("capsem_home")]


def having(*machines: tuple[str, str]) -> Known:
    """What is known where these ids have these names."""
    places.prepare()
    known = Known()
    for machine, name in machines:
        places.session(machine).mkdir(mode=0o700)
        known.put(Record(id=machine, spec=MachineSpec(name=name), digest="d", created="2026-01-01T00:00:00Z"))
    return known


def test_machines_are_found_by_name_and_id_and_its_beginning() -> None:
    known = having(("m-aaaa0001", "build"), ("m-aaaa0002", "m-aaaa"), ("m-bbbb0003", "other"))
    assert known.find("build").id == "m-aaaa0001"
    assert known.find("m-bb").id == "m-bbbb0003"
    assert known.find("m-aaaa").id == "m-aaaa0002", "a whole name beats a beginning"
    for name in ("m-a", "nothing", "m-", ""):
        with pytest.raises(NotFoundError):
            known.find(name)
    with pytest.raises(NotFoundError, match="fits 2"):
        known.find("m-aaaa0")


def test_only_old_logs_of_machines_that_are_gone_are_removed() -> None:
    known = having(("m-0000000a", "build"))
    logs = [places.log(name) for name in ("m-0000000a", "m-0000000b", "m-0000000c", "other")]
    for log in logs:
        log.write_text("evidence")
    for log in (logs[0], logs[1], logs[3]):
        os.utime(log, (1, 1))
    with pytest.raises(UsageError):
        known.forget_logs(-1)
    assert known.forget_logs(30) == ["m-0000000b"]
    assert [log.exists() for log in logs] == [True, False, True, True]
    assert known.forget_logs(0) == ["m-0000000c"]


def test_what_is_known_is_on_the_disk_and_a_name_is_had_once() -> None:
    known = having(("m-0000000a", "build"))
    place = places.session("m-0000000a") / "session.json"
    assert decode(place.read_bytes(), "x") == known.find("build")
    known.not_taken("other")
    with pytest.raises(ConflictError, match="there is a machine named build"):
        known.not_taken("build")


def test_one_that_was_deleted_is_known_by_the_beginning_of_its_id() -> None:
    known = having(("m-0000000a", "build"))
    places.log("m-0000000b").write_bytes(b"")
    assert known.recorded("m-0000000b") == ("m-0000000b", None)
    assert known.recorded("build") == ("m-0000000a", known.find("build"))
    assert known.history("m-0000000b") == []
    with pytest.raises(NotFoundError):
        known.recorded("m-1")
