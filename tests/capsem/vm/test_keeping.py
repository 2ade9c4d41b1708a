from __future__ import annotations

import pytest

from capsem.vm.keeping import RULES, Item, Judged, What, judged
from capsem.vm.settings import Settings, read

DAY = 86400.0
NOW = 1000 * DAY


def one(item: Item, text: str) -> Judged:
    (found,) = judged([item], Settings(None, read(text, "f")), NOW)
    return found


@pytest.mark.parametrize("what", list(RULES))
@pytest.mark.parametrize(("age", "goes"), [(6.9, False), (7.0, True), (700.0, True), (-3.0, False)])
def test_age_decides_where_a_rule_speaks(what: What, age: float, goes: bool) -> None:
    rule = RULES[what]
    key = rule.partition(".")[2]
    item = Item(what, "x", 1, NOW - age * DAY)
    found = one(item, f"[clean]\n{key} = 7\n")
    assert (found.goes, found.place) == (goes, "f:2")
    assert f"{rule} is 7" in found.why
    assert not one(item, f'[clean]\n{key} = "none"\n').goes


@pytest.mark.parametrize("what", list(What))
def test_what_is_needed_stays_whatever_the_rules_say(what: What) -> None:
    item = Item(what, "x", 1, 0.0, needed="machine m needs it", useless="it is gone")
    found = one(item, "[clean]\ntemplates = 1\nimages = 1\nlogs = 1\n")
    assert (found.goes, found.why) == (False, "machine m needs it")


def test_what_is_of_no_use_goes_at_once_and_what_no_rule_speaks_of_stays() -> None:
    assert one(Item(What.UNFINISHED, "x", 1, NOW, useless="its maker was killed"), "").goes
    assert one(Item(What.TEMPLATE, "x", 1, NOW, useless="its image is gone"), "").goes
    assert not one(Item(What.UNFINISHED, "x", 1, 0.0), "").goes


def test_built_in_no_record_and_no_image_goes_however_old() -> None:
    found = judged([Item(what, "x", 1, 0.0) for what in RULES], Settings(None, None), NOW)
    assert {judgement.item.what for judgement in found if judgement.goes} == {What.TEMPLATE}
