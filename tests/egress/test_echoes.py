"""Values that come back: every spelling, every border of pieces, nothing held back that need not be."""

from __future__ import annotations

import base64
import html
import itertools
import json
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capsule.egress.echoes import Echo, Echoes

VALUE = "s3cr3t/+v4lue<&é"
HOLD = b"capsule-secret-token-" + b"0123456789abcdef" * 2
ECHOES = Echoes([Echo(VALUE.encode(), HOLD, "me")])
SPELLED = {
    "plain": VALUE.encode(),
    "percent": urllib.parse.quote(VALUE, safe="").encode(),
    "percent, lower": urllib.parse.quote(VALUE, safe="").lower().encode(),
    "json": json.dumps(VALUE).encode()[1:-1],
    "json, slash": json.dumps(VALUE).replace("/", "\\/").encode()[1:-1],
    "html": html.escape(VALUE).encode(),
    "basic": base64.b64encode(b"me:" + VALUE.encode()),
    **{f"base64 at {n}": base64.b64encode(b"x" * n + VALUE.encode() + b"tail") for n in range(4)},
    "percent, wholly": b"".join(b"%%%02x" % byte for byte in VALUE.encode()),
    "json, wholly": "".join(f"\\u{ord(one):04x}" for one in VALUE).encode(),
    "html, wholly": "".join(f"&#{ord(one)};" for one in VALUE).encode(),
    "mixed": VALUE.replace("/", "\\/")
    .replace("+", "\\u002B")
    .replace("<", "&lt;")
    .replace("é", "%C3%a9")
    .encode(),
    "hexadecimal": VALUE.encode().hex().encode(),
    "hexadecimal, upper": VALUE.encode().hex().upper().encode(),
    "utf-16": VALUE.encode("utf-16-le"),
    "utf-16, big": VALUE.encode("utf-16-be"),
    "base64, percent": urllib.parse.quote(base64.b64encode(b"?" + VALUE.encode()), safe="").encode(),
    "base64, json": base64.b64encode(b"x" + VALUE.encode()).replace(b"+", b"\\u002B").replace(b"/", b"\\/"),
    "base64, url": base64.urlsafe_b64encode(b"??" + VALUE.encode()),
}


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
def test_every_spelling_is_replaced(spelled: bytes) -> None:
    changed, count = ECHOES.replace(b"before " + spelled + b" after " + spelled)
    assert count == 2
    assert changed.strip(b"\0").startswith(b"before ")
    assert spelled not in changed
    assert VALUE.encode() not in changed
    same, count = ECHOES.replace(spelled, keep_length=True)
    assert (len(same), count) == (len(spelled), 1)


def _ends_clearly(value: str) -> bool:
    """One that ends in backslashes is found, and one that belongs to what follows may go with it."""
    return not value.endswith("\\")


@given(
    value=st.text("abcdefgh\"\\\\'/é", min_size=6, max_size=20).filter(_ends_clearly),
    depth=st.integers(1, 3),
    cut=st.integers(1, 200),
    raw=st.booleans(),
)
@example(value="valB-\\222", depth=1, cut=8, raw=False)
@example(value="pass\\\\word\\", depth=3, cut=7, raw=True)
def test_a_value_in_json_within_json_is_found_with_its_backslashes(
    value: str, depth: int, cut: int, raw: bool
) -> None:
    """What a server that shows a request sends, that of another one which shows what it answered, and once more."""
    shown, left = value, HOLD.decode()
    for _ in range(depth):
        shown = json.dumps({"sent": shown}, ensure_ascii=not raw)
        left = json.dumps({"sent": left}, ensure_ascii=not raw)
    echoes = Echoes([Echo(value.encode(), HOLD)])
    assert echoes.replace(shown.encode()) == (left.encode(), 1)
    stream = echoes.stream(keep_length=False)
    body = shown.encode()
    pieces = [stream.feed(body[at : at + cut]) for at in range(0, len(body), cut)]
    assert (b"".join(pieces) + stream.end(), stream.count) == (left.encode(), 1)


@pytest.mark.parametrize("coded", [str.encode, lambda text: json.dumps(text).encode()])
def test_a_value_that_a_server_took_for_latin_1_is_found(coded: Callable[[str], bytes]) -> None:
    echoes = Echoes([Echo("pässwörd".encode(), HOLD)])
    shown = coded("you sent " + "pässwörd".encode().decode("latin-1"))
    assert echoes.replace(shown) == (coded("you sent " + HOLD.decode()), 1)


def _spell(character: str, how: int) -> bytes:
    raw, point = character.encode(), ord(character)
    forms = (
        raw,
        b"".join(b"%%%02x" % byte for byte in raw),
        b"".join(b"%%%02X" % byte for byte in raw),
        b"".join(b"%%25%02X" % byte for byte in raw),
        b"\\u%04x" % point,
        b"\\\\u%04X" % point,
        b"\\/" if character == "/" else b"\\x%02x" % point if point < 0x80 else raw,
        b"&#%d;" % point,
        b"&#X%X;" % point,
        b"&amp;#x%x;" % point,
        html.escape(character).encode(),
    )
    return forms[how % len(forms)]


@given(
    value=st.text("abcdefghij0189-_./+=<&é\u20ac", min_size=6, max_size=24),
    how=st.lists(st.integers(0, 10), min_size=24, max_size=24),
    before=st.binary(max_size=12),
    after=st.binary(max_size=12),
    cuts=st.lists(st.integers(0, 700), max_size=8),
    form=st.integers(0, 3),
)
def test_any_mix_of_escapes_is_found_in_any_pieces(
    value: str, how: list[int], before: bytes, after: bytes, cuts: list[int], form: int
) -> None:
    """Also of base64; nothing of it is left in what went on, and the pieces change nothing."""
    text = value if form == 0 else base64.b64encode(b"x" * (form - 1) + value.encode()).decode()
    spelled = b"".join(_spell(one, way) for one, way in zip(text, how * 5, strict=False))
    body = before + b" " + spelled + b" " + after
    echoes = Echoes([Echo(value.encode(), HOLD)])
    whole, count = echoes.replace(body)
    assert count >= 1
    assert HOLD in whole
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    stream = echoes.stream(keep_length=False)
    got = b"".join(stream.feed(body[one:two]) for one, two in itertools.pairwise(places)) + stream.end()
    assert (got, stream.count) == (whole, count)


@given(
    st.lists(
        st.sampled_from(
            [
                b"%",
                b"%2",
                b"%25",
                b"6d",
                b"m",
                b"\\",
                b"u00",
                b"&",
                b"amp;",
                b"#1",
                b"09;",
                b"\0",
                b"my",
                b"-token",
                b"%6d",
                b"&#109",
                b";",
                b"y-tok",
                b"en",
            ]
        ),
        max_size=24,
    ),
    st.integers(1, 9),
)
def test_pieces_change_nothing(parts: list[bytes], size: int) -> None:
    echoes = Echoes([Echo(b"my-token", b"<1>"), Echo(b"my-my-%&", b"<2>"), Echo(b"n\\u00m", b"<3>")])
    body = b"".join(parts)
    whole, count = echoes.replace(body)
    stream = echoes.stream(keep_length=False)
    got = b"".join(stream.feed(body[at : at + size]) for at in range(0, len(body), size)) + stream.end()
    assert (got, stream.count) == (whole, count)


def test_the_credential_of_basic_goes_back_whole() -> None:
    changed, _ = ECHOES.replace(b"Basic " + base64.b64encode(b"me:" + VALUE.encode()))
    assert changed == b"Basic " + base64.b64encode(b"me:" + HOLD)


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
def test_pieces_of_any_size(spelled: bytes) -> None:
    body = b"a" * 50 + spelled + b"s3cr" + spelled + b"s3cr3t"
    whole, count = ECHOES.replace(body)
    for size in range(1, len(spelled) + 2):
        stream = ECHOES.stream(keep_length=False)
        got = b"".join(stream.feed(body[at : at + size]) for at in range(0, len(body), size)) + stream.end()
        assert (got, stream.count) == (whole, count)


def test_only_what_may_begin_a_value_is_held_back() -> None:
    stream = ECHOES.stream(keep_length=False)
    assert stream.feed(b"data: tok\n\n") == b"data: tok\n\n", "an event is not held up"
    assert stream.feed(b"data: s3cr3") == b"data: "
    assert stream.feed(b"x") == b"s3cr3x"
    long = b"s3cr3t/" * 100_000
    assert len(stream.feed(long)) > len(long) - ECHOES.longest, "what is held is bounded"


def test_a_value_that_repeats_its_beginning_or_is_part_of_another() -> None:
    echoes = Echoes([Echo(b"abcabcab", b"<1>"), Echo(b"abcabcabcdef", b"<2>")])
    for body in (b"xabcabcabx", b"xabcabcabcdefx", b"abcabcabcabcab", b"ababcabcab"):
        whole, _ = echoes.replace(body)
        for size in range(1, len(body)):
            stream = echoes.stream(keep_length=False)
            got = b"".join(stream.feed(body[at : at + size]) for at in range(0, len(body), size))
            assert got + stream.end() == whole, (body, size)


def test_short_values_and_other_transformations_are_not_found() -> None:
    assert not Echoes([Echo(b"abc", HOLD)])
    assert ECHOES.replace(VALUE[::-1].encode()) == (VALUE[::-1].encode(), 0)
    assert "s3cr3t" not in repr(Echo(VALUE.encode(), HOLD))
