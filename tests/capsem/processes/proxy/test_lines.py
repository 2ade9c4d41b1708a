"""Bytes as lines."""

from __future__ import annotations

import pytest

from capsem.processes.proxy import lines
from capsem.processes.proxy.lines import Lines, TooLongError

pytestmark = pytest.mark.asyncio


def of(*pieces: bytes) -> Lines:
    left = [*pieces, b""]

    async def read() -> bytes:
        return left.pop(0) if left else b""

    return Lines(read)


async def test_lines_in_any_pieces() -> None:
    found = of(b"a", b"b\nc\n", b"\n", b"d")
    assert [await found.next() for _ in range(5)] == [b"ab", b"c", b"", b"d", None]


async def test_a_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE", 100)
    found = of(*[b"x" * 60] * 5)
    with pytest.raises(TooLongError):
        await found.next()
