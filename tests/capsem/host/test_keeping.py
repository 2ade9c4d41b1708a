"""What could go is found on the disk, and what somebody needs is told as needed, whatever the rules say."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from capsem.host import images, keeping, paths, places
from capsem.host.images import Image
from capsem.host.plans import write_plan
from capsem.host.rooms import room
from capsem.vm.keeping import Item, Judged, What, judged
from capsem.vm.plan import work_out
from capsem.vm.record import Origin, Record, encode
from capsem.vm.settings import Settings, read
from capsem.vm.spec import MachineSpec
from tests.capsem.host.made import made_image
from tests.capsem.processes.service.test_registry import left
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = [pytest.mark.usefixtures("capsem_home")]
LONG_AGO = 1_000_000_000
STRICT = Settings(None, read("[clean]\ntemplates = 1\nimages = 1\nlogs = 1\n", "f"))
SIGNED = b'{"seq":0}\n{"note":"x"}\n'


def old(place: Path) -> None:
    os.utime(place, (LONG_AGO, LONG_AGO))


def template(key: str, image: Image) -> Path:
    directory = places.templates() / key
    directory.mkdir()
    plan = work_out(MachineSpec(), dataclasses.replace(IMAGE, digest=image.digest), FACTS)
    write_plan(directory, plan)
    (directory / "complete").touch()
    old(directory / "complete")
    return directory


def nameless(content: bytes) -> Image:
    """An image whose name another one took."""
    image = made_image("passing", content=content)
    made_image("passing", content=content + b"x")
    for place in (image.directory, *image.directory.glob(".verified")):
        old(place)
    return image


def log(machine: str, content: bytes = SIGNED) -> Path:
    place = places.log(machine)
    place.write_bytes(content)
    old(place)
    return place


def going() -> dict[str, Judged]:
    return {one.item.name: one for one in judged(keeping.items(), STRICT, time.time())}


def test_what_somebody_needs_stays_and_the_rest_goes() -> None:
    record = left("m-0000000a", "build")
    image = made_image()
    used, free, of_fork = (nameless(content) for content in (b"used", b"free", b"forked"))
    branch = Record(
        id="m-0000000b", spec=MachineSpec(name="branch"), digest=used.digest, created=record.created,
        origin=Origin("m-0000000d", "c", "x"),
    )  # fmt: skip
    places.session("m-0000000b").mkdir()
    (places.session("m-0000000b") / "session.json").write_bytes(encode(branch))
    disk = paths.home() / "disk"
    disk.write_bytes(b"d" * 65536)
    fork = images.fork(of_fork, disk, "fork")
    for machine in ("m-0000000a", "m-0000000c", "m-0000000d"):
        log(machine)
    log("m-0000000e", b'{"seq":0}\n{"note":"x"}\n{"seq":1}\n')
    log("m-0000000f", SIGNED[:-1])
    kept, gone = template("a" * 64, image), template("b" * 64, image)
    os.utime(kept / "complete")
    found = going()
    assert {name for name, one in found.items() if one.goes} == {free.digest, "m-0000000c", gone.name}
    for name, why in {
        image.digest: "it is named default", used.digest: "machine m-0000000b needs it",
        of_fork.digest: f"image {fork.digest[:12]} needs it", fork.digest: "it is named fork",
        "m-0000000a": "its machine is there", "m-0000000d": "machine m-0000000b is a branch of it",
        "m-0000000e": "unfinished", "m-0000000f": "unfinished", kept.name: "not used for 0 days",
    }.items():  # fmt: skip
        assert why in found[name].why, name
    for one in found.values():
        if one.goes:
            assert keeping.remove(one)
    assert {name for name, one in going().items() if one.goes} == set()
    assert not free.directory.exists()
    assert not gone.exists()
    assert not places.log("m-0000000c").exists()
    assert used.directory.exists()
    told = [json.loads(line) for line in keeping.recorded_at().read_text().splitlines()]
    assert {(one["what"], one["name"], one["from"]) for one in told} == {
        ("image", free.digest, "f:3"), ("log", "m-0000000c", "f:4"), ("template", gone.name, "f:2"),
    }  # fmt: skip
    assert all(one["bytes"] > 0 and one["time"].endswith("Z") for one in told)


def test_a_fork_without_a_name_is_nowhere_else_and_stays() -> None:
    places.prepare()
    base = made_image()
    disk = paths.home() / "disk"
    disk.write_bytes(b"d" * 65536)
    fork = images.fork(base, disk, "fork")
    made_image("fork", content=b"another")
    old(fork.directory)
    assert going()[fork.digest].why.endswith("what it has is nowhere else")


def test_a_record_that_cannot_be_read_keeps_every_log() -> None:
    left("m-0000000a", "build")
    log("m-0000000c")
    assert going()["m-0000000c"].goes
    (places.session("m-0000000a") / "session.json").write_bytes(b"half")
    found = going()["m-0000000c"]
    assert not found.goes
    assert "cannot be read" in found.why


def test_a_template_of_an_image_that_is_gone_and_what_a_killed_process_made() -> None:
    places.prepare()
    image = made_image()
    directory = template("a" * 64, image)
    os.utime(directory / "complete")
    half = places.templates() / ("b" * 64 + ".x.new")
    half.mkdir()
    (paths.images() / ".building-x").mkdir()
    with room(paths.images(), ".forking-") as held, room(places.templates(), "c.", ".new") as made:
        found = going()
        assert {name for name, one in found.items() if one.goes} == {
            "images/.building-x",
            f"templates/{half.name}",
        }
        assert held.exists()
        assert made.exists()
    images.remove("default")
    found = going()
    assert found[directory.name].goes
    assert found[directory.name].why == "its image is gone"
    for one in found.values():
        assert keeping.remove(one)
    assert list(places.templates().iterdir()) == []


def test_what_came_into_use_meanwhile_stays() -> None:
    places.prepare()
    image, free = made_image(), nameless(b"free")
    directory, place = template("a" * 64, image), log("m-0000000c")
    found = going()
    os.utime(directory / "complete")
    os.utime(place)
    images.open_image(free.digest)
    for name in (directory.name, "m-0000000c", free.digest):
        assert found[name].goes
        assert not keeping.remove(found[name]), name
    assert directory.exists()
    assert place.exists()
    assert free.directory.exists()


def test_what_cannot_be_put_on_record_stays() -> None:
    places.prepare()
    place = log("m-0000000c")
    keeping.recorded_at().symlink_to(paths.home() / "elsewhere")
    item = Item(What.LOG, "m-0000000c", 1, place.stat().st_mtime)
    with pytest.raises(OSError, match="symbolic link"):
        keeping.remove(Judged(item, goes=True, why="old"))
    assert place.exists()
    assert not (paths.home() / "elsewhere").exists()
