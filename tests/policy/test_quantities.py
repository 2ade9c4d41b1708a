from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.policy.quantities import EXPECTED, MAX_INTEGER, nearest_quantity, parse_quantity, shown_quantity


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("1B", "size", 1),
        ("64KiB", "size", 65536),
        ("10MB", "size", 10_000_000),
        ("2GiB", "size", 2**31),
        ("1kB", "size", 1000),
        ("500ms", "duration", 500),
        ("60s", "duration", 60_000),
        ("10m", "duration", 600_000),
        ("2h", "duration", 7_200_000),
        ("256", "count", 256),
        ("none", "size", None),
        ("none", "count", None),
        ("5", "money", 5_000_000),
        ("5.00", "money", 5_000_000),
        ("0.5", "money", 500_000),
        ("0.000001", "money", 1),
        ("none", "money", None),
    ],
)
def test_values(text: str, kind: str, value: int | None) -> None:
    assert parse_quantity(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "size"), ("0", "count"), ("0B", "size"), ("010", "count"), ("1.5GiB", "size"), ("2G", "size"),
        ("2gib", "size"), ("2 GiB", "size"), ("-1", "count"), ("1e3", "count"), ("0x10", "count"), ("1_000", "count"),
        ("5", "size"), ("5", "duration"), ("1d", "duration"), ("8388608TiB", "size"), ("9" * 17, "count"), ("None", "size"),  # noqa: E501
        ("٣", "count"), ("1B\n", "size"), ("0", "money"), ("0.00", "money"), ("05", "money"), (".5", "money"),
        ("5.", "money"), ("1e3", "money"), ("5.0000001", "money"), ("-1", "money"), ("$5", "money"),
        ("9" * 10, "money"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str, kind: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_quantity(text, kind)


@pytest.mark.parametrize(
    ("text", "kind", "nearest"),
    [
        ("2G", "size", "2GiB"),
        ("2gb", "size", "2GiB"),
        ("100", "size", "100B"),
        ("64 kib", "size", "64KiB"),
        ("7x", "size", "7B"),
        ("30", "duration", "30s"),
        ("30 min", "duration", "30m"),
        ("30sec", "duration", "30s"),
        ("5hours", "duration", "5h"),
        ("20millis", "duration", "20ms"),
        ("x", "duration", None),
        ("5k", "count", None),
        ("$5.00", "money", "5.00"),
        ("5,5", "money", "5.5"),
        ("5", "money", None),
        ("five", "money", None),
    ],
)
def test_what_was_probably_meant(text: str, kind: str, nearest: str | None) -> None:
    assert nearest_quantity(text, kind) == nearest
    if nearest is not None:
        assert parse_quantity(nearest, kind) is not None


@given(st.integers(1, MAX_INTEGER) | st.none(), st.sampled_from(sorted(EXPECTED)))
def test_shown_reads_back(value: int | None, kind: str) -> None:
    if value is None or len(shown_quantity(value, kind)) < 16:
        assert parse_quantity(shown_quantity(value, kind), kind) == value
