from __future__ import annotations

import pytest

from capsule.policy.fields import alike, gateway_name


@pytest.mark.parametrize("name", ["x-client-id", "X_Client_Id", "x.client~id", "X-CLIENT!ID"])
def test_names_that_are_one_to_gateways(name: str) -> None:
    assert gateway_name(name) == "x-client-id"


def test_values_of_names_that_are_one_stand_together() -> None:
    sent = {"x-a": "1", "x_a": "2", "x.a": "3", "b": "4", "c_d": "5"}
    assert alike(sent) == {"x-a": "1, 2, 3", "x_a": "2", "x.a": "3", "b": "4", "c_d": "5", "c-d": "5"}
    assert alike({}) == {}
