from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.host import places
from capsem.host.usage import measured, of_machine, taken
from tests.capsem.host.made import made_image
from tests.capsem.processes.service.test_registry import left

BLOB = 1 << 20


def written(place: Path, size: int = BLOB) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())  # delayed allocation: blocks are counted once they are given out
    return place


def test_holes_and_second_names_do_not_count(tmp_path: Path) -> None:
    first = written(tmp_path / "a")
    (tmp_path / "b").hardlink_to(first)
    (tmp_path / "link").symlink_to(first)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    size, apparent = taken([tmp_path])
    assert BLOB <= size < 2 * BLOB
    assert apparent > 1 << 40
    assert taken([tmp_path / "nothing"]) == (0, 0)
    seen: set[tuple[int, int]] = set()
    assert taken([first], seen)[0] >= BLOB
    assert taken([tmp_path / "b"], seen)[0] == 0


@pytest.mark.usefixtures("capsem_home")
def test_whose_it_is() -> None:
    left("m-0000000a", "build")
    made_image("default", content=os.urandom(3 * BLOB))
    written(places.session("m-0000000a") / "disk", 2 * BLOB)
    written(places.templates() / ("ab" * 32) / "memory")
    written(places.log("m-0000000a"), 4096)
    used = measured()
    by = {(part.kind, part.name): part.size for part in used.parts}
    assert by["image", "default"] >= 3 * BLOB
    assert by["machine", "build"] >= 2 * BLOB
    assert by["template", "abababababab"] >= BLOB
    assert by["logs", "logs"] >= 4096
    assert used.total == sum(by.values())
    assert [part.size for part in used.parts] == sorted((part.size for part in used.parts), reverse=True)
    assert of_machine("m-0000000a") >= 2 * BLOB + 4096
