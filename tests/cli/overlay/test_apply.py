from __future__ import annotations

import json
import os

from tests.cli.overlay.conftest import Capsule
from tests.overlay.conftest import Made


def test_takes_everything_over_and_throws_the_overlay_away(made: Made, capsule: Capsule) -> None:
    answer = capsule("apply", "--yes", "--links")
    assert answer.returncode == 0, answer.stderr
    assert (made.root / "a.txt").read_text() == "one\nthree\n"
    assert not (made.root / "gone").exists()
    assert (made.root / "out").is_symlink()
    assert not made.directory.exists()
    assert not [path for path in made.root.iterdir() if path.name.startswith(".capsule")]


def test_in_json(made: Made, capsule: Capsule) -> None:
    answer = capsule("apply", "--json", "--yes")
    assert answer.returncode == 125
    *changes, last = map(json.loads, answer.stdout.splitlines())
    assert {change["path"] for change in changes} >= {"a.txt", "gone", "out"}
    assert (last["ok"], last["exit"]) == (False, 125)
    assert "--links" in last["error"]["next_step"]
    answer = capsule("apply", "--json", "--yes", "--links")
    assert answer.returncode == 0, answer.stderr
    last = json.loads(answer.stdout.splitlines()[-1])
    assert (last["taken_over"], last["left_out"]) == (len(changes), 0)
    assert not (made.root / "gone").exists()


def test_asks_and_nobody_answers(made: Made, capsule: Capsule) -> None:
    answer = capsule("apply", "--links")
    assert answer.returncode == 125
    assert "--yes" in answer.stderr
    assert (made.root / "gone").exists()


def test_a_conflict_stops_it_until_forced(made: Made, capsule: Capsule) -> None:
    (made.root / "a.txt").write_text("host\n")
    answer = capsule("apply", "--yes")
    assert answer.returncode == 125
    assert "CONFLICT" in answer.stdout
    assert (made.root / "gone").exists()
    assert capsule("apply", "--yes", "--force", "--keep", "--links").returncode == 0
    assert (made.root / "a.txt").read_text() == "one\nthree\n"
    assert made.directory.exists()


def test_a_refused_change_stops_it_until_left_out(made: Made, capsule: Capsule) -> None:
    os.mkfifo(made.upper / "fifo")
    answer = capsule("apply", "--yes")
    assert answer.returncode == 125
    assert "REFUSED: it is a FIFO" in answer.stdout
    assert (made.root / "gone").exists()
    assert capsule("apply", "--yes", "--skip-refused").returncode == 0
    assert not (made.root / "fifo").exists()
    assert not (made.root / "gone").exists()
    assert made.directory.exists(), "what was refused can still be looked at"


def test_links_that_point_outside_are_named_and_wait_for_a_word(made: Made, capsule: Capsule) -> None:
    answer = capsule("apply", "--yes")
    assert answer.returncode == 125
    assert "'out' -> " in answer.stderr
    assert "--links" in answer.stderr
    assert (made.root / "gone").exists(), "nothing was taken over"
    assert capsule("apply", "--yes", "--skip-refused").returncode == 0
    assert not (made.root / "gone").exists()
    assert not (made.root / "out").is_symlink()
    assert made.directory.exists(), "what was left out can still be looked at"
