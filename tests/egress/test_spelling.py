"""One text in any mix of escapes: where it ends, and whether it may yet come."""

from __future__ import annotations

import html
import json
import re
import urllib.parse

import pytest

from capsule.egress.spelling import LEADS, Text, character_of, escapes_of, names_of

VALUE = 'my-t/o+k"<&é𝄞'
TEXT = Text(VALUE)


def each(form: str) -> bytes:
    return "".join(form.format(ord(one)) for one in VALUE).encode()


WHOLE = {
    "plain": VALUE.encode(),
    "percent": b"".join(b"%%%02x" % byte for byte in VALUE.encode()),
    "percent, upper": b"".join(b"%%%02X" % byte for byte in VALUE.encode()),
    "percent, usual": urllib.parse.quote(VALUE, safe="").encode(),
    "percent, twice": urllib.parse.quote(urllib.parse.quote(VALUE, safe=""), safe="").encode(),
    "percent, four times": b"".join(b"%%252525%02x" % byte for byte in VALUE.encode()),
    "json": json.dumps(VALUE).encode()[1:-1],
    "json, slash": json.dumps(VALUE).replace("/", "\\/").encode()[1:-1],
    "json within json": json.dumps(json.dumps(VALUE)).encode()[3:-3],
    "json, wholly": b"".join(
        b"\\u%02X%02x" % pair for pair in zip(*[iter(VALUE.encode("utf-16-be"))] * 2, strict=True)
    ),
    "python": b"".join(b"\\x%02x" % byte for byte in VALUE.encode()),
    "html": html.escape(VALUE).encode(),
    "html, decimal": each("&#{};"),
    "html, zeros": each("&#0000{};"),
    "html, hexadecimal": each("&#x{:x};"),
    "html, upper": each("&#X{:X};"),
    "html, twice": each("&amp;#{};"),
    "html, names": VALUE.replace("&", "&AMP;")
    .replace("/", "&sol;")
    .replace("+", "&plus;")
    .replace("é", "é")
    .encode(),
}


@pytest.mark.parametrize("spelled", WHOLE.values(), ids=WHOLE)
def test_whole_spellings(spelled: bytes) -> None:
    assert TEXT.ends(b"x" + spelled + b" behind", 1) == 1 + len(spelled)
    assert not TEXT.opens(spelled + b" behind", 0)
    for cut in range(1, len(spelled)):
        assert TEXT.opens(spelled[:cut], 0), spelled[:cut]
        assert TEXT.ends(spelled[:cut], 0) in (None, cut), spelled[:cut]
    assert TEXT.ends(spelled[:-1] + b" ", 0) in (None, len(spelled) - 1)


def test_other_texts_are_not_it() -> None:
    for other in (b'my-t/o+k"<&e', b"%6dx-t", b"\\u006ey-t", b"&#1090;y-t", b"&#x6d0;y", b"%%6dy-t"):
        assert TEXT.ends(other + VALUE.encode()[2:], 0) is None, other
        assert not TEXT.opens(other + b" behind ", 0), other


def test_what_an_escape_begins_with_is_found_for_each() -> None:
    patterns = {lead: re.compile(pattern) for lead, pattern in escapes_of(VALUE).items()}
    for name, spelled in WHOLE.items():
        if name == "plain":
            continue
        assert any(pattern.search(spelled) for pattern in patterns.values()), name
    assert not any(
        pattern.search(b"%40 \\u0041 \\n &#65; &lt &nbsp;".replace(b"&lt", b""))
        for pattern in patterns.values()
    )
    assert set(LEADS) == {ord(lead) for lead in patterns}
    assert set(b"sol") <= set(names_of("/"))
    assert character_of("m") is character_of("m")


def test_backslashes_may_be_doubled_or_not() -> None:
    text = Text("a\\b\\")
    for spelled in (b"a\\b\\", b"a\\\\b\\\\", b"a\\u005cb\\x5c", b"a%5Cb&#92;"):
        assert text.ends(spelled + b" ", 0) == len(spelled)
