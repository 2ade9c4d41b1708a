from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from capsem.host import rooms

HOLDS = """
import sys, time
from pathlib import Path
from capsem.host.rooms import room
with room(Path(sys.argv[1]), ".building-") as place:
    (place / "half").write_bytes(b"half")
    print(place, flush=True)
    time.sleep(600)
"""


def test_what_is_held_is_not_abandoned_and_is_once_its_maker_was_killed(tmp_path: Path) -> None:
    maker = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    place = Path(maker.stdout.readline().strip())
    try:
        assert place.is_dir()
        assert rooms.abandoned(tmp_path, (".building-",)) == []
        assert not rooms.clear(place)
        assert (place / "half").exists()
    finally:
        os.kill(maker.pid, signal.SIGKILL)
        maker.wait()
        maker.stdout.close()
    assert rooms.abandoned(tmp_path, (".forking-",)) == []
    assert rooms.abandoned(tmp_path, (".building-",)) == [place]
    assert rooms.clear(place)
    assert not place.exists()
    assert not rooms.clear(place)


def test_what_was_moved_away_stays_and_the_rest_goes(tmp_path: Path) -> None:
    with rooms.room(tmp_path, "x.", ".new") as place:
        assert place.name.startswith("x.")
        assert place.name.endswith(".new")
        (place / "image").mkdir()
        (place / "image").rename(tmp_path / "kept")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept"]
    with rooms.room(tmp_path, "x.", ".new") as place:
        place.rename(tmp_path / "whole")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept", "whole"]
    with pytest.raises(RuntimeError), rooms.room(tmp_path, "y."):
        raise RuntimeError
    assert not list(tmp_path.glob("y.*"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / ".building-link").symlink_to(tmp_path / "real")
    assert rooms.abandoned(tmp_path, (".building-",)) == []
    assert not rooms.clear(tmp_path / ".building-link")
