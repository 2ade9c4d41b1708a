from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from capsem.errors import UsageError
from capsem.vm.kinds import Days, Kind, Number, Size, Text

KINDS: tuple[Kind, ...] = (Number(0, 64), Text(), Size(96, 1024), Size(96, 1024, none=True), Days())


def allowed(kind: Kind, value: object) -> bool:
    try:
        kind.check(value)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "value", "right"),
    [
        (Number(0, 64), 0, True),
        (Number(0, 64), 65, False),
        (Number(0, 64), True, False),
        (Number(0, 64), "5", False),
        (Text(), "a b", True),
        (Text(), "", False),
        (Text(), "a\nb", False),
        (Size(96, 1024), "1G", True),
        (Size(96, 1024), "512MiB", True),
        (Size(96, 1024), "2G", False),
        (Size(96, 1024), "none", False),
        (Size(96, 1024, none=True), "none", True),
        (Size(96, 1024), 512, False),
        (Days(), 1, True),
        (Days(), 0, False),
        (Days(), "none", True),
        (Days(), "30", False),
        (Days(), False, False),
    ],
)
def test_what_a_value_may_be(kind: Kind, value: object, right: bool) -> None:
    assert allowed(kind, value) is right


@given(value=st.one_of(st.integers(), st.text(max_size=12), st.booleans(), st.none(), st.floats()))
def test_what_is_allowed_is_allowed_by_the_schema_too(value: Any) -> None:
    for kind in KINDS:
        if allowed(kind, value):
            assert Draft202012Validator(kind.schema()).is_valid(value), (kind, value)


def test_what_is_written_on_the_command_line() -> None:
    assert Days().read("30") == Number(0, 64).read("30") == 30
    assert Days().read("none") == "none"
    assert Text().read("30") == Size(1, 64).read("30") == "30"
