"""A fast no is never wrong: whatever is spelled, whatever stands around it; and it is a no where nothing is."""

from __future__ import annotations

import os
import random

from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.echoes import Echo, Echoes
from capsule.egress.prospect import Prospect
from capsule.egress.spelling import ALPHABET

LETTERS = "abcdefux0125-_./+=<&"
HOLD = b"capsule-secret-token-" + b"0123456789abcdef" * 2
PIECES = [
    b"%",
    b"%2",
    b"%25",
    b"%u",
    b"%u00",
    b"%%",
    b"\\",
    b"\\\\",
    b"\\u",
    b"\\u0",
    b"\\u00",
    b"\\x",
    b"\\x2",
]
PIECES += [
    b"=",
    b"=\n",
    b"\r",
    b"\n",
    b"5",
    b"25",
    b"4",
    b"a",
    b"\0",
    b" ",
    b"&",
    b"\xff",
    b"%3D",
    b"%0d",
    b"\\x25",
]
AROUND = st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join)


def _spell(character: str, how: int) -> bytes:
    point = ord(character)
    forms = (
        character.encode(),
        b"%%%02x" % point,
        b"%%25%02X" % point,
        b"%%252525%02x" % point,
        b"%%u%04x" % point,
        b"%%25U%04X" % point,
        b"\\u%04x" % point,
        b"\\\\\\U%04X" % point,
        b"\\x%02x" % point,
        b"\\\\\\\\\\\\\\\\X%02X" % point,
        b"\\" + character.encode() if character in "/<&" else character.encode(),
    )
    return forms[how % len(forms)]


@given(
    value=st.text(LETTERS, min_size=6, max_size=40),
    how=st.lists(st.integers(0, 10), min_size=40, max_size=40),
    before=AROUND,
    after=AROUND,
)
def test_what_is_there_is_never_denied(value: str, how: list[int], before: bytes, after: bytes) -> None:
    spelled = b"".join(_spell(one, way) for one, way in zip(value, how, strict=False))
    prospect = Prospect([value.encode()], bytes({*value.encode(), *ALPHABET}))
    assert prospect.decodes(before + spelled + after)
    for shift in range(8):  # wherever the sample begins, and behind what is looked at first
        assert prospect.runs(b"\xfe" * shift + spelled)
        assert prospect.runs(b"\xfe" * (5000 + shift) + spelled + b"\xfe" * shift)


@given(
    value=st.text(LETTERS, min_size=20, max_size=40),
    how=st.lists(st.integers(0, 10), min_size=40, max_size=40),
    before=AROUND,
)
def test_a_value_is_found_behind_many_escapes_of_others(value: str, how: list[int], before: bytes) -> None:
    echoes = Echoes([Echo(value.encode(), HOLD)])
    spelled = b"".join(_spell(one, way) for one, way in zip(value, how, strict=False))
    noise = b"%61\\u0062\\x63 " * 40
    changed, count = echoes.replace(noise + before + spelled + b" " + noise)
    assert count >= 1
    assert HOLD in changed


def test_it_says_no() -> None:
    """Else the two would be worth nothing."""
    texts = [b"abc/def-ghi/klmno1234", b"ghp_16C7e42F292c6912E7710c838347Ae178B4a"]
    prospect = Prospect(texts, bytes({*b"".join(texts), *ALPHABET}))
    noise = random.Random(7).randbytes(1 << 18)
    assert not prospect.runs(noise)
    assert not prospect.decodes(b"".join(b"%%%02X" % byte for byte in noise[: 1 << 16]))
    assert not prospect.decodes(b'{"a": "\\u0061\\/b"}' * 1000)


def test_texts_that_cannot_be_told_are_always_likely() -> None:
    for text in (
        b"short",
        b"with%percent-and-more",
        b"back\\slash-and-more",
        "ümlaut-and-more".encode(),
        b"5252525252abcd",
    ):
        assert Prospect([text], text + ALPHABET).decodes(os.urandom(64))
    assert Prospect([b"abcdef"], b"abcdef" + ALPHABET).runs(bytes(64))
