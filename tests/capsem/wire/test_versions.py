from __future__ import annotations

import pytest

from capsem.wire.versions import WIRE, Fit, Version, judge, told


@pytest.mark.parametrize(
    ("client", "service", "fit"),
    [
        (Version("1.0.0"), Version("1.0.0"), Fit.GOES),
        (Version("1.2.0"), Version("1.10.0"), Fit.GOES),
        (Version("1.10.0"), Version("1.2.0"), Fit.REPLACE),
        (Version("2.0"), Version("2.0.1"), Fit.GOES),
        (Version("1.0.0", WIRE + 1), Version("1.0.0", WIRE), Fit.REPLACE),
        (Version("1.0.0", WIRE), Version("1.0.0", WIRE + 1), Fit.REFUSED),
        (Version("0.9", WIRE), Version("1.0.0", WIRE + 1), Fit.REFUSED),
        (Version("1.0", WIRE), Version("0.9", WIRE + 1), Fit.REPLACE),
        (Version("1.0.0rc1"), Version("1.0.0"), Fit.GOES),
        (Version("1.0.0"), None, Fit.REPLACE),
    ],
)
def test_the_newer_side_decides(client: Version, service: Version | None, fit: Fit) -> None:
    assert judge(client, service) is fit


def test_what_is_told_is_read_again() -> None:
    version = Version("1.2.3", 7)
    assert told(version.fields) == version
    assert str(version) == "capsem 1.2.3 (wire 7)"


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"capsem-version": "1.0"}, {"capsem-wire": "1"}, {"capsem-version": "1.0\x1b[2J", "capsem-wire": "1"},
        {"capsem-version": "1.0", "capsem-wire": "one"}, {"capsem-version": "", "capsem-wire": "1"},
        {"capsem-version": "1" * 65, "capsem-wire": "1"}, {"capsem-version": "1.0", "capsem-wire": "1" * 10},
    ],
)  # fmt: skip
def test_a_word_that_is_no_version_is_none(fields: dict[str, str]) -> None:
    assert told(fields) is None
