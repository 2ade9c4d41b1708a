from __future__ import annotations

import pytest

from capsule.sessions.chart import amount, bar, buckets, dollars, number, span, spark


def test_activity() -> None:
    assert buckets([0, 1, 50, 99, 100, 300, -5], 100, 4) == [3, 1, 0, 3]
    assert buckets([], 0, 3) == [0, 0, 0]
    assert buckets([0], 0, 2) == [1, 0]
    assert spark([0, 1, 50, 100]) == " ▁▄█"
    assert spark([0, 0]) == "  "
    assert spark([0, 1, 8], ascii_only=True) == " .@"


def test_bars() -> None:
    assert bar(100, 100, 8) == "█" * 8
    assert bar(1, 10_000, 8) == "▏"
    assert bar(44, 100, 10) == "████▍"
    assert (bar(0, 9, 4), bar(3, 0, 4)) == ("", "")
    assert bar(50, 100, 8, ascii_only=True) == "####"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (amount(0), "0 B"), (amount(999), "999 B"), (amount(1536), "1.5 kB"), (amount(150_000), "150 kB"),
        (amount(3 * 10**9), "3.0 GB"), (amount(10**15), "1000.0 TB"), (number(9999), "9999"), (number(12_345), "12.3k"),
        (number(250_000_000), "250M"), (number(3 * 10**9), "3.0G"), (span(15), "15 µs"), (span(61_000_000), "1m01s"),
        (span(3_700_000_000), "1h01m"), (span(2_500_000), "2.5 s"), (span(7000), "7 ms"), (dollars(8100), "$0.0081"),
        (dollars(1_230_000), "$1.23"), (dollars(0), "$0.00"),
    ],
)  # fmt: skip
def test_sizes_in_few_characters(shown: str, expected: str) -> None:
    assert shown == expected
