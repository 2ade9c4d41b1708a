from __future__ import annotations

import os

from tests.cli.overlay.conftest import Capsule
from tests.overlay.conftest import Made


def test_takes_everything_over_and_throws_the_overlay_away(made: Made, capsule: Capsule) -> None:
    answer = capsule("apply", "--yes")
    assert answer.returncode == 0, answer.stderr
    assert (made.root / "a.txt").read_text() == "one\nthree\n"
    assert not (made.root / "gone").exists()
    assert (made.root / "out").is_symlink()
    assert not made.directory.exists()
    assert not [path for path in made.root.iterdir() if path.name.startswith(".capsule")]


def test_asks_and_nobody_answers(made: Made, capsule: Capsule) -> None:
    answer = capsule("apply")
    assert answer.returncode == 125
    assert "--yes" in answer.stderr
    assert (made.root / "gone").exists()


def test_a_conflict_stops_it_until_forced(made: Made, capsule: Capsule) -> None:
    (made.root / "a.txt").write_text("host\n")
    answer = capsule("apply", "--yes")
    assert answer.returncode == 125
    assert "CONFLICT" in answer.stdout
    assert (made.root / "gone").exists()
    assert capsule("apply", "--yes", "--force", "--keep").returncode == 0
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
