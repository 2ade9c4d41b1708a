"""The verdict of `benchmarks/soak_machine.py`: what grows with machines is a leak, a page more is none."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("capsem", reason="the distribution capsem is not installed")

from benchmarks.soak_machine import leaks

LEFT: dict[str, Any] = {
    "processes of the service": 2, "other processes": 0, "descriptors": 16, "threads": 6, "memory, MB": 83.7,
    "sessions": 0, "sockets": 0, "disk without logs, MB": 204.4, "logs, MB": 0.1, "shared memory of the host, MB": 800,
}  # fmt: skip


def test_what_stays_as_it_is_is_no_leak() -> None:
    assert leaks(LEFT, LEFT, 30) == []
    later = {
        "threads": 7,
        "memory, MB": 88.0,
        "disk without logs, MB": 204.8,
        "logs, MB": 90,
        "shared memory of the host, MB": 2000,
    }
    assert leaks(LEFT, {**LEFT, **later}, 30) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("processes of the service", 3), ("other processes", 1), ("descriptors", 17), ("threads", 900), ("sessions", 1),
        ("sockets", 1), ("memory, MB", 110.0), ("disk without logs, MB", 215.2),
    ],
)  # fmt: skip
def test_what_grows_is_named(name: str, value: float) -> None:
    [told] = leaks(LEFT, {**LEFT, name: value}, 200)
    assert told.startswith(f"{name}: {LEFT[name]} to {value}")
