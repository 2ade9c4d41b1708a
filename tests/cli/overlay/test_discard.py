from __future__ import annotations

import json

from tests.cli.overlay.conftest import Capsule
from tests.overlay.conftest import Made


def test_throws_the_overlay_away_and_leaves_the_host(made: Made, capsule: Capsule) -> None:
    answer = capsule("discard")
    assert (answer.returncode, answer.stdout) == (0, "r-1: thrown away\n")
    assert not made.directory.exists()
    assert (made.root / "a.txt").read_text() == "one\ntwo\n"
    assert capsule("discard").returncode == 125
    assert capsule("discard", "--all").returncode == 0


def test_in_json(made: Made, capsule: Capsule) -> None:
    assert json.loads(capsule("discard", "--json").stdout) == {"thrown_away": ["r-1"]}
    assert not made.directory.exists()
    assert json.loads(capsule("discard", "--all", "--json").stdout) == {"thrown_away": []}


def test_a_name_that_leads_elsewhere_is_refused(made: Made, capsule: Capsule) -> None:
    assert capsule("discard", "../../root").returncode == 125
    assert made.root.exists()
