"""Mutations for the fuzz targets: of bytes, and of JSON that keeps being JSON. The same seed, the same inputs.

`CAPSULE_FUZZ_ROUNDS` multiplies how many there are: 1 in the test suite, more on a quiet machine. Example::

    for data in mutated(b"seed", corpus, count=500): target(data)
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

ROUNDS = int(os.environ.get("CAPSULE_FUZZ_ROUNDS", "1"))
_TOKENS = (
    b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"%", b"\\u", b'"', b"{", b"[",
    b":", b",", b"data:", b"-1", b"1e999", b"9" * 30, b"null", b"\xc0\x0c", b"\x3f", b"\x00\x00", b"\xff\xff",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, 1.5, float("inf"), "", "x", "\ud800", "\0", "x" * 5000,
    [], {}, [[]], [{}], {"": {}}, {"type": []}, [None] * 300, {"id": {}}, {"index": []},
)  # fmt: skip


def mutated(seed: int, corpus: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Inputs near the corpus, and now and then two of them joined."""
    rng = random.Random(seed)
    for _ in range(count * ROUNDS):
        data = bytearray(rng.choice(corpus))
        if rng.random() < 0.1:
            other = rng.choice(corpus)
            data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(6):
                case 0 if data:
                    data[at % len(data)] = rng.randrange(256)
                case 1 if data:
                    data[at % len(data)] ^= 1 << rng.randrange(8)
                case 2:
                    del data[at : at + rng.choice((1, 2, 8, 64))]
                case 3:
                    data[at:at] = rng.choice(_TOKENS)
                case 4:
                    end = at + rng.choice((1, 4, 32))
                    data[at:at] = data[at:end] * rng.choice((1, 2, 20))
                case _:
                    del data[at + rng.randrange(max(len(data) - at, 1)) :]
        yield bytes(data)


def mutated_json(seed: int, corpus: Sequence[Any], count: int) -> Iterator[Any]:
    """JSON values with some inner values replaced, removed, doubled or moved."""
    rng = random.Random(seed)
    for _ in range(count * ROUNDS):
        value = json.loads(json.dumps(rng.choice(corpus)))
        for _ in range(rng.choice((1, 1, 2, 4))):
            value = _changed(rng, value)
        yield value


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found.append((value, key))
        _places(item, found)
    return found


def _changed(rng: random.Random, value: Any) -> Any:
    places = _places(value, [])
    if not places or rng.random() < 0.02:
        return json.loads(json.dumps(rng.choice(_VALUES)))
    inside, key = rng.choice(places)
    match rng.randrange(5):
        case 0 if isinstance(inside, dict):
            del inside[key]
        case 1:
            inside[key] = [inside[key], json.loads(json.dumps(inside[key]))]
        case 2:
            other, other_key = rng.choice(places)
            inside[key] = json.loads(json.dumps(other[other_key])) if len(places) < 400 else None
        case _:
            inside[key] = json.loads(json.dumps(rng.choice(_VALUES)))
    return value


def cut(seed: int, data: bytes) -> list[bytes]:
    """The data in pieces of any size."""
    rng = random.Random(seed)
    pieces, at = [], 0
    while at < len(data):
        size = rng.choice((1, 1, 2, 3, 7, 64, 4096))
        pieces.append(data[at : at + size])
        at += size
    return pieces
