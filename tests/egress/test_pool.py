"""Names and addresses of a run: stable, exact both ways, bounded."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.pool import FIRST, LAST, Pool, PoolFullError

NETWORK = ipaddress.IPv4Network("198.18.0.0/15")


@given(st.lists(st.text("abc.", min_size=1, max_size=5), max_size=60))
def test_one_address_a_name_and_back(names: list[str]) -> None:
    pool = Pool()
    given_out = {name: str(ipaddress.IPv4Address(pool.address(name))) for name in names}
    assert len(set(given_out.values())) == len(set(names)) == len(pool)
    for name, address in given_out.items():
        assert pool.address(name) == ipaddress.IPv4Address(address).packed
        assert pool.name(address) == name
        assert ipaddress.IPv4Address(address) in NETWORK


def test_the_whole_range_leaves_out_the_resolver_and_both_ends() -> None:
    assert ipaddress.IPv4Address(FIRST) == NETWORK.network_address + 2
    assert ipaddress.IPv4Address(LAST) == NETWORK.broadcast_address - 1
    pool = Pool(limit=LAST - FIRST + 1)
    last = [pool.address(str(number)) for number in range(LAST - FIRST + 1)][-1]
    assert int.from_bytes(last, "big") == LAST
    with pytest.raises(PoolFullError):
        pool.address("one more")


def test_a_full_pool_still_knows_its_own() -> None:
    pool = Pool(limit=1)
    address = pool.address("a.example")
    with pytest.raises(PoolFullError, match="1 names"):
        pool.address("b.example")
    assert pool.address("a.example") == address


@pytest.mark.parametrize(
    "address", ["198.18.0.1", "198.18.0.3", "", "a.example", "198.18.0.002", "::ffff:198.18.0.2"]
)
def test_an_address_never_handed_out_has_no_name(address: str) -> None:
    pool = Pool()
    pool.address("a.example")
    assert pool.name(address) is None


@pytest.mark.parametrize("limit", [0, -1, LAST])
def test_limits_that_make_no_sense(limit: int) -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        Pool(limit)
