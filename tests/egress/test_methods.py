"""Methods that a body asks for: every spelling of the field, nothing else, and what is too long to be looked at."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
import zlib

import pytest

from capsule.egress.methods import (
    FORM,
    READ,
    UNPACKED,
    Fields,
    Names,
    UnclearError,
    Uploads,
    asked,
    is_field,
    kind_of,
)

MULTIPART = "multipart/form-data"
PARTS = f"{MULTIPART}; boundary=x"
ASKS = b'{"_method": "DELETE"}'


def part(head: str, value: str = "delete", line: str = "\r\n") -> bytes:
    return f"--x{line}{head}{line}{line}{value}{line}--x--{line}".encode()


@pytest.mark.parametrize(
    "body",
    [
        b"_method=DELETE",
        b"a=1&_method=delete",
        b"a=1;_method=delete",
        b"%5Fmeth%6fd=d%65lete",
        b"_METHOD=+delete",
        b".method=delete",
        b"+_method=delete",
        b"%5Bmethod=delete",
        b"_method%00x=delete",
    ],
)
def test_forms(body: bytes) -> None:
    assert asked(FORM, body) == ("DELETE",)
    assert asked("Application/X-WWW-Form-Urlencoded; charset=utf-8", body) == ("DELETE",)
    assert asked("text/plain", body) == ()


@pytest.mark.parametrize(
    "head",
    [
        'Content-Disposition: form-data; name="_method"',
        "content-disposition:form-data;name=_method",
        'Content-Type: text/plain\r\nContent-Disposition: form-data; name="_method"\r\nX: y',
        'Content-Disposition: form-data;\r\n name="_method"',
        'Content-Disposition: form-data; name="\\_method"',
        "Content-Disposition: form-data; name*=utf-8''_method",
        'Content-Disposition: form-data; filename="name=a"; NAME="_method"',
        'Content-Disposition: form-data; name=".method"',
        'X-Content-Disposition: form-data; name="_method"',
        'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="_method"',
        "Content-ID: _method",
        "Content-Type: text/plain\r\ncontent-id:_method \r\nX: y",
    ],
)
def test_parts(head: str) -> None:
    assert asked(PARTS, part(head)) == ("DELETE",)
    assert asked(PARTS, part(head.replace("\r\n", "\n"), line="\n")) == ("DELETE",)
    for said in ("multipart/mixed", "Multipart/Related", "multipart/x"):
        assert asked(f"{said}; boundary=x", part(head)) == ("DELETE",)
    for size in (1, 7, 4096):
        body, seen = bytes(9000) + b"\r\n" + part(head), Uploads()
        found = [seen.feed(body[at : at + size]) for at in range(0, len(body), size)]
        assert any(found), size


@pytest.mark.parametrize(
    "body",
    [
        part('Content-Disposition: form-data; name="method"'),
        part("Content-ID: <_method@x>"),
        part('Content-Disposition: form-data; name="file"; filename="_method"'),
        part('Content-Disposition: form-data; name="page"', '<input name="_method" value="delete">'),
    ],
)
def test_other_parts(body: bytes) -> None:
    assert asked(PARTS, body) == ()
    for size in (1, 5, 4096):
        seen = Uploads()
        assert not any([seen.feed(body[at : at + size]) for at in range(0, len(body), size)])  # noqa: C419 - all


@pytest.mark.parametrize("head", ["Content-Disposition: x\r\n", "Content-ID: _method\r\n", "content-id:"])
def test_many_heads_take_no_longer_than_their_bytes(head: str) -> None:
    body = (head * ((1 << 20) // len(head))).encode()
    began = time.process_time()
    with contextlib.suppress(UnclearError):
        asked(PARTS, body)
    assert time.process_time() - began < 3


@pytest.mark.parametrize("part", ["&", "%20", "&_method", "&+_method=x", "a=b&"])
def test_a_long_form_takes_no_longer_than_its_bytes(part: str) -> None:
    body = (part * ((1 << 20) // len(part))).encode()
    began = time.process_time()
    with contextlib.suppress(UnclearError):
        asked(FORM, body)
    assert time.process_time() - began < 3


def test_a_name_is_not_hidden_in_a_long_line() -> None:
    body, seen = part(f'Content-Disposition: form-data; x="{"y" * 9000}"; name="_method"'), Uploads()
    assert any(seen.feed(body[at : at + 1000]) for at in range(0, len(body), 1000))
    longer = Uploads()
    assert not longer.feed(b'\r\nContent-Disposition: form-data; name="_method')
    assert not longer.feed(b's"\r\n\r\nx'), "another name"


def test_json() -> None:
    assert asked("application/json", b'{"_method": "delete"}') == ("DELETE",)
    assert asked("application/vnd.api+json", b'{"\\u005fmethod": "put", "_method": "delete"}') == (
        "PUT",
        "DELETE",
    )
    for other in ({"method": "x"}, {"a": {"_method": "delete"}}, [{"_method": "delete"}], "_method"):
        assert asked("application/json", json.dumps(other).encode()) == ()
    assert asked("application/json", b'{"method": ') == ()
    assert asked("application/json", None) == ()
    assert asked("application/json; charset=UTF-8", b'{"a": "\xc3\xa9 \\u0000"}') == ()
    assert asked("application/octet-stream", b"\0_method") == ()


@pytest.mark.parametrize(
    "said",
    [
        "text/json",
        "text/plain; a=/json",
        "Application/JSON-patch+JSON",
        "application/json, text/plain",
        "x/y+json",
    ],
)
def test_whatever_says_json_is_json(said: str) -> None:
    """Laravel asks whether `/json` or `+json` stands anywhere in the type."""
    assert asked(said, b'{"_method": "delete"}') == ("DELETE",)
    assert kind_of(said) == "json"


@pytest.mark.parametrize("said", [f"{FORM}; a=/json", f"{MULTIPART}; a=+json", f"{FORM}, {PARTS}"])
def test_a_body_of_more_than_one_type_is_refused(said: str) -> None:
    with pytest.raises(UnclearError, match="more than one type"):
        asked(said, b"{}")


@pytest.mark.parametrize(
    "said", ["", " ", "; charset=utf-8", ", text/plain", MULTIPART, "multipart/mixed; a=b"]
)
def test_what_rack_takes_for_a_form(said: str) -> None:
    assert asked(said, b"a=1&_method=delete") == ("DELETE",)
    assert asked(said, b"a=_method&b=delete") == asked(said, b"") == ()
    with pytest.raises(UnclearError, match="content coding"):
        asked(said, gzip.compress(b"_method=DELETE"), "gzip")


@pytest.mark.parametrize("said", ["multipart/mixed; boundary=", f"{MULTIPART}; boundary*0=x", f"; {FORM}"])
def test_what_some_take_for_a_form_and_others_for_an_upload_is_refused(said: str) -> None:
    with pytest.raises(UnclearError, match="more than one type"):
        asked(said, b"{}")


@pytest.mark.parametrize(
    "name",
    [
        "_method=",
        "%5Fmeth%6fd=",
        "_METHOD=",
        ".method=",
        "+_method=",
        "%20%20_method=",
        "_method%00x=",
        "[method=",
    ],
)
def test_a_name_in_a_form_that_passes_in_pieces(name: str) -> None:
    assert asked("", None) == ()
    for body in (f"{name}delete", "y" * 5000 + f"&{name}delete"):
        for size in (1, 3, 64, 8192):
            fields, sent = Fields(), body.encode()
            assert any([fields.feed(sent[at : at + size]) for at in range(0, len(sent), size)]), size  # noqa: C419
    for size in (1, 3, 8192):
        fields, sent = Fields(), b"y" * 5000 + b"&a_method=1&_methods=2&x=_method&method=3"
        assert not any([fields.feed(sent[at : at + size]) for at in range(0, len(sent), size)])  # noqa: C419


@pytest.mark.parametrize(
    "body",
    [
        b'{"_method": "DELETE", "n": ' + b"1" * 5000 + b"}",
        b'{"_method": "DELETE", "n": "\xff"}',
        b'{"_method": "DELETE", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"_method": "DELETE" /* a */}',
        b'{"_meth\\u006fd": "DELETE",}',
        b"{'_method': 'DELETE'}",
        b'{_method: "DELETE"}',
        b'{"_method": "DELETE"} {}',
    ],
    ids=["number", "byte", "depth", "comment", "comma", "quotes", "bare", "two"],
)
def test_json_that_only_others_read_is_said(body: bytes) -> None:
    with pytest.raises(UnclearError, match="cannot be read here"):
        asked("application/json", body)
    harmless = body.replace(b"_meth", b"http_meth")
    assert asked("application/json", harmless) == ()


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_json_in_wide_letters_is_said(coding: str) -> None:
    body = ASKS.decode().encode(coding)
    with pytest.raises(UnclearError, match="not UTF-8"):
        asked("application/json", body)
    with pytest.raises(UnclearError, match="not UTF-8"):
        asked(f"application/json; Charset = '{coding}'", ASKS)
    names = Names()
    assert any([names.feed(body[at : at + 1]) for at in range(len(body))])  # noqa: C419 - all


@pytest.mark.parametrize("said", ["application/json", FORM, PARTS])
@pytest.mark.parametrize(
    "charset", ["utf-7", "UTF7", '"utf-16le"', "ibm037", "iso-2022-jp", "unicode_escape"]
)
def test_a_charset_of_other_letters_is_said(said: str, charset: str) -> None:
    with pytest.raises(UnclearError, match="not UTF-8"):
        asked(f"{said}; charset={charset}", b"{}")
    for plain in ("utf-8", '"UTF8"', "us-ascii", "ISO-8859-15", "windows-1252", ""):
        assert asked(f"{said}; charset={plain}", b"{}") == ()


@pytest.mark.parametrize("said", ["application/connect+json", "application/grpc+json; charset=utf-8"])
def test_what_is_spoken_is_not_waited_for_and_still_looked_at(said: str) -> None:
    """Laravel takes it for JSON too."""
    assert kind_of(said) == "spoken"
    assert asked(said, None) == ()
    assert asked(said, b"\0\0\0\0\x08" + b'{"a": 1}') == ()
    with pytest.raises(UnclearError, match="has a field _method"):
        asked(said, b'{"_method": "DELETE"}')
    with pytest.raises(UnclearError, match="content coding"):
        asked(said, None, "gzip")
    names = Names(framed=True)
    assert not names.feed(b"\0\0\0\0\x02{}")
    assert names.feed(b'{"_method": "DELETE"}')
    assert kind_of("application/connect+proto") is None
    assert kind_of("application/grpc") is None


def test_much_unpacked_json_is_not_read_whole() -> None:
    filler = b'{"a": "' + b"y" * READ
    assert asked("application/json", gzip.compress(filler + b'"}'), "gzip") == ()
    with pytest.raises(UnclearError, match="this length"):
        asked("application/json", gzip.compress(filler + b'", "_method": "DELETE"}'), "gzip")


def test_what_cannot_be_looked_at_is_said() -> None:
    with pytest.raises(UnclearError, match="this length"):
        asked(FORM, None)
    assert asked(PARTS, None) == ()
    with pytest.raises(UnclearError, match="content coding"):
        asked(FORM, gzip.compress(b"_method=DELETE"), "gzip")
    with pytest.raises(UnclearError, match="content coding"):
        asked(PARTS, None, "br")
    with pytest.raises(UnclearError, match="too many"):
        asked(FORM, b"&".join(b"_method=M%d" % number for number in range(9)))
    with pytest.raises(UnclearError, match="no end"):
        asked(PARTS, b'--x\r\nContent-Disposition: form-data; name="_method"\r\n')


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", gzip.compress(ASKS)), ("X-GZIP", gzip.compress(ASKS)), ("deflate", zlib.compress(ASKS)),
     (" deflate ", zlib.compress(ASKS)[2:-4])],
    ids=["gzip", "x-gzip", "deflate", "bare"],
)  # fmt: skip
def test_json_under_a_content_coding_is_unpacked(coding: str, body: bytes) -> None:
    assert asked("application/json", body, coding) == ("DELETE",)
    assert asked("application/json", gzip.compress(b'{"a": 1}'), "gzip") == ()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", b"x"),
        ("zstd", b"x"),
        ("gzip, gzip", gzip.compress(gzip.compress(ASKS))),
        ("gzip", ASKS),
        ("gzip", gzip.compress(ASKS)[:-3]),
        ("gzip", gzip.compress(b"{}") + gzip.compress(ASKS)),
        ("gzip", gzip.compress(bytes(UNPACKED + 1))),
        ("gzip", None),
    ],
    ids=["br", "zstd", "twice", "none", "cut", "members", "bomb", "long"],
)
def test_json_under_a_content_coding_that_nobody_can_look_at_is_said(coding: str, body: bytes | None) -> None:
    with pytest.raises(UnclearError, match="JSON under a content coding"):
        asked("application/json", body, coding)


@pytest.mark.parametrize(
    "name",
    [
        '"_method"', '"_METHOD"', '".method"', '"[method"', '"  _method"', r'"\u005fmethod"', r'"\u005F\u004dethod"',
        r'"\u0020_method"', r'"_method\u0000x"', r'"_meth\u006fd"',
    ],
)  # fmt: skip
def test_a_name_in_json_that_passes_in_pieces(name: str) -> None:
    whole = '{"a": ["' + "y" * 5000 + '"], ' + name + '  : "DELETE"}'
    assert asked("application/json", whole.encode()) == ("DELETE",)
    for size in (1, 3, 64, 8192):
        names, body = Names(), whole.encode()
        assert any([names.feed(body[at : at + size]) for at in range(0, len(body), size)]), size  # noqa: C419


def test_other_names_and_words_within_a_text_are_none() -> None:
    other = {
        "http_method": 1, "method": 2, "_methods": 3, "x": 'code: {"_method": "delete"}', "y": "<a name='_method'>",
    }  # fmt: skip
    body = json.dumps(other).encode()
    for size in (1, 5, 4096):
        names = Names()
        assert not any([names.feed(body[at : at + size]) for at in range(0, len(body), size)])  # noqa: C419


def test_names() -> None:
    assert is_field(b"_method")
    for other in (b"", b"method", b"__method", b"x_method", b"_methods", b"-method"):
        assert not is_field(other)
