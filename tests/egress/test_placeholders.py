"""Placeholders are found in every spelling, across every cut, and nothing else is."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.placeholders import SCANNED, Placeholders

GITHUB = "capsule-secret-github-" + "0123456789abcdef" * 2
PYPI = "capsule-secret-a_b-c-" + "f" * 32
FOUND = Placeholders({"github": GITHUB, "a_b-c": PYPI})


def everywhere_percent(data: bytes) -> bytes:
    return b"".join(b"%%%02x" % byte for byte in data)


def everywhere_escaped(data: bytes) -> bytes:
    return b"".join(b"\\u%04x" % byte for byte in data)


SPELLINGS: list[Callable[[bytes], bytes]] = [
    bytes,
    everywhere_percent,
    everywhere_escaped,
    lambda data: quote(data.decode(), safe="").encode(),
    lambda data: json.dumps(data.decode()).encode(),
    base64.b64encode,
    base64.urlsafe_b64encode,
    lambda data: base64.b64encode(data).rstrip(b"="),
    base64.encodebytes,
    lambda data: quote(base64.b64encode(data).decode(), safe="").encode(),
    lambda data: everywhere_percent(base64.b64encode(data)),
]


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("before", ["", "x", "xy", "xyz", "user:", "\xff\xfe>>??", "token="])
@pytest.mark.parametrize("after", ["", ":", "&more=1", "\n"])
def test_every_spelling_is_seen(spell: Callable[[bytes], bytes], before: str, after: str) -> None:
    data = spell((before + GITHUB + after).encode("utf-8"))
    for around in (data, b"Basic " + data, b'{"a": "' + data + b'"}', b"abc/" + data, data + b"-_+/" * 30):
        assert FOUND.seen(around) == {"github"}, around


def test_both_are_seen_and_only_these() -> None:
    both = f"{GITHUB}{PYPI}".encode()
    assert FOUND.seen(both) == FOUND.plain(both) == {"github", "a_b-c"}
    for text in (
        GITHUB[:-1],
        GITHUB[1:],
        GITHUB.replace("github", "gitlab"),
        "capsule-secret-",
        PYPI[:-1] + "e",
    ):
        for spell in SPELLINGS:
            assert FOUND.seen(spell(text.encode())) == set()


@given(st.binary(max_size=300))
def test_noise_has_none(data: bytes) -> None:
    assert FOUND.seen(data) == set()


@given(
    st.sampled_from(SPELLINGS),
    st.binary(max_size=1500),
    st.lists(st.integers(1, 400), min_size=1, max_size=30),
)
def test_the_scanner_finds_it_across_every_cut(
    spell: Callable[[bytes], bytes], noise: bytes, sizes: list[int]
) -> None:
    body = noise.replace(b"\\", b"/") + b" " + spell(GITHUB.encode()) + b" tail"
    scanner = FOUND.scanner()
    seen: list[str] = []
    at, turn = 0, 0
    while at < len(body):
        size = sizes[turn % len(sizes)]
        seen += scanner.feed(body[at : at + size])
        at, turn = at + size, turn + 1
    assert seen == ["github"], "once, however often it is looked at"


@pytest.mark.parametrize("size", range(1, 8))
def test_the_scanner_finds_it_byte_by_byte(size: int) -> None:
    for spell in SPELLINGS:
        scanner = FOUND.scanner()
        body = b"0123" + spell(b"u:" + GITHUB.encode()) + b"4567"
        seen = [name for at in range(0, len(body), size) for name in scanner.feed(body[at : at + size])]
        assert seen == ["github"]


def test_only_the_first_mebibyte_is_looked_at() -> None:
    inside, outside = FOUND.scanner(), FOUND.scanner()
    text = GITHUB.encode()
    assert inside.feed(b" " * (SCANNED - len(text)) + text) == {"github"}
    assert outside.feed(b" " * (SCANNED - len(text) + 1) + text) == set()
    assert outside.feed(text) == set()


def test_nothing_to_look_for() -> None:
    assert Placeholders({}).seen(GITHUB.encode()) == set()
    assert Placeholders({}).scanner().feed(GITHUB.encode()) == set()


@pytest.mark.parametrize(
    "placeholders",
    [
        {"github": "capsule-secret-github-0123"},
        {"gitlab": GITHUB},
        {"github": GITHUB.upper()},
        {"github": GITHUB + "\n"},
        {"": "capsule-secret--" + "0" * 32},
    ],
)
def test_other_forms_are_refused(placeholders: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is not capsule-secret-"):
        Placeholders(placeholders)


def test_a_name_that_ends_like_anothers_digits() -> None:
    inner = "capsule-secret-x-" + "0" * 32
    outer = f"capsule-secret-x-{'0' * 30}-" + "1" * 32
    assert len(f"x-{'0' * 30}") == 32
    both = Placeholders({"x": inner, f"x-{'0' * 30}": outer})
    assert both.plain(outer.encode()) == {f"x-{'0' * 30}"}
    assert both.plain(inner.encode()) == {"x"}


@pytest.mark.serial
@pytest.mark.parametrize(
    "piece",
    [
        b"%41",
        b"\\u0041",
        b"Y2Fwc3VsZS1zZWNyZXQt",
        b"Y2Fwc3VsZS1zZWNyZXQt ",
        b"capsule-secret-",
        b"NhcHN1bGUtc2VjcmV0",
        b"a",
    ],
)
def test_hostile_bodies_take_linear_time(piece: bytes) -> None:
    def spent(size: int) -> float:
        body = piece * (size // len(piece))
        best = 9.0
        for _ in range(2):
            scanner = FOUND.scanner()
            start = time.perf_counter()
            for at in range(0, len(body), 65536):
                scanner.feed(body[at : at + 65536])
            best = min(best, time.perf_counter() - start)
        return best

    assert spent(SCANNED) < 16 * max(spent(SCANNED // 4), 0.01)


def test_mutated_placeholders_are_either_whole_or_none() -> None:
    rng = random.Random(5)
    for _ in range(2000):
        data = bytearray(rng.choice(SPELLINGS)(b"ab:" + GITHUB.encode()))
        data[rng.randrange(len(data))] = rng.randrange(256)
        assert FOUND.seen(bytes(data)) <= {"github"}


def test_a_placeholder_of_another_run_is_a_stranger() -> None:
    other = b"capsule-secret-github-" + b"f" * 32
    for spell in (bytes, everywhere_percent, base64.b64encode, lambda data: base64.b64encode(b"me:" + data)):
        assert FOUND.strangers(b"Basic " + spell(other)) == {"github"}
        assert FOUND.strangers(b"Basic " + spell(GITHUB.encode())) == set(), "the control: its own"
    assert Placeholders({}).strangers(other) == {"github"}
    assert FOUND.strangers(GITHUB.encode() + b" " + other) == {"github"}
    assert FOUND.strangers(b"capsule-secret-github-f") == set()
