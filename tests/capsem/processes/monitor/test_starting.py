from __future__ import annotations

import os
from pathlib import Path

from capsem.processes.monitor.starting import entry, used_up
from capsem.vm.plan import work_out
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec, RuleText
from tests.capsem.processes.monitor.standing import ID
from tests.capsem.vm.test_plan import FACTS, IMAGE


def test_the_start_tells_what_was_asked_for_and_what_it_is_made_of() -> None:
    spec = MachineSpec(name="build", cpus=2, rules=(RuleText("rules.yaml", ""),))
    record = Record(id=ID, spec=spec, digest=IMAGE.digest, created="2026-01-01T00:00:00Z")
    told = entry(record, work_out(spec, IMAGE, FACTS), template=True, resumed=False)
    assert (told["name"], told["cpus"], told["rules"]) == ("build", 2, ["rules.yaml"])
    assert (told["image"], told["qemu"]) == (IMAGE.digest, FACTS.qemu)
    assert (told["template"], told["resumed"]) == (True, False)


def test_what_was_used_up_has_no_name_and_is_there_until_it_is_closed(tmp_path: Path) -> None:
    place = tmp_path / "suspended.used"
    assert used_up(place) is None
    place.write_bytes(b"memory")
    used = used_up(place)
    assert used is not None
    assert not place.exists()
    assert os.pread(used, 16, 0) == b"memory"
    os.close(used)


def test_a_link_loses_its_name_and_not_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"kept")
    (tmp_path / "suspended.used").symlink_to("other")
    assert used_up(tmp_path / "suspended.used") is None
    assert not (tmp_path / "suspended.used").is_symlink()
    assert (tmp_path / "other").read_bytes() == b"kept"
