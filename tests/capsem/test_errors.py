from __future__ import annotations

import inspect

import pytest

from capsem import errors
from capsule.errors import CapsuleError, Fault

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.CapsemError) and kind is not errors.CapsemError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_says_who_and_what_next(kind: type[errors.CapsemError]) -> None:
    error = kind("it broke", next_step="mend it")
    assert isinstance(error, CapsuleError)
    assert isinstance(error.fault, Fault)
    assert str(error) == "it broke; mend it"
    assert error.exit_code in {1, 2, 124, 125, 126, 127}


def test_an_error_without_a_next_step_is_refused() -> None:
    with pytest.raises(TypeError):
        errors.MachineError("it broke")  # type: ignore[call-arg]
