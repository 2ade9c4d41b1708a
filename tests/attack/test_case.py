"""The text of an act is the act, without what declares it."""

from __future__ import annotations

from capsule.attack.case import Family, text_of
from capsule.attack.inside import Inside

FAMILY = Family(lambda _: None)


@FAMILY.case("a.b", 1, "a title", during=lambda _: None)
def act(a: Inside) -> None:
    a.say("x")


@FAMILY.case("a.c", 1, "another title")
def plain(a: Inside) -> None:
    a.say("y")


def test_text_of_leaves_the_declaration_out() -> None:
    assert text_of(act) == 'def act(a: Inside) -> None:\n    a.say("x")\n'


def test_a_case_that_looks_also_listens() -> None:
    looks, plainly = FAMILY.cases
    assert looks.launch.listens
    assert not plainly.launch.listens
    assert looks.family == "a"
