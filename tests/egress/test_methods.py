"""Methods that a body asks for: every spelling of the field, nothing else, and what is too long to be looked at."""

from __future__ import annotations

import gzip
import json

import pytest

from capsule.egress.methods import FORM, MULTIPART, UnclearError, Uploads, asked, is_field, kind_of

PARTS = f"{MULTIPART}; boundary=x"


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
    ],
)
def test_parts(head: str) -> None:
    assert asked(PARTS, part(head)) == ("DELETE",)
    assert asked(PARTS, part(head.replace("\r\n", "\n"), line="\n")) == ("DELETE",)
    for size in (1, 7, 4096):
        body, seen = bytes(9000) + b"\r\n" + part(head), Uploads()
        found = [seen.feed(body[at : at + size]) for at in range(0, len(body), size)]
        assert any(found), size


@pytest.mark.parametrize(
    "body",
    [
        part('Content-Disposition: form-data; name="method"'),
        part('Content-Disposition: form-data; name="file"; filename="_method"'),
        part('Content-Disposition: form-data; name="page"', '<input name="_method" value="delete">'),
    ],
)
def test_other_parts(body: bytes) -> None:
    assert asked(PARTS, body) == ()
    for size in (1, 5, 4096):
        seen = Uploads()
        assert not any([seen.feed(body[at : at + size]) for at in range(0, len(body), size)])  # noqa: C419 - all


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
    assert asked("application/json", b'{"_method": ') == ()
    assert asked("application/json", None) == ()
    assert kind_of("application/connect+json") is None


def test_what_cannot_be_looked_at_is_said() -> None:
    with pytest.raises(UnclearError, match="this length"):
        asked(FORM, None)
    assert asked(PARTS, None) == ()
    with pytest.raises(UnclearError, match="content coding"):
        asked(FORM, gzip.compress(b"_method=DELETE"), "gzip")
    with pytest.raises(UnclearError, match="content coding"):
        asked(PARTS, None, "br")
    assert asked("application/json", gzip.compress(b'{"_method": "DELETE"}'), "gzip") == ()
    with pytest.raises(UnclearError, match="too many"):
        asked(FORM, b"&".join(b"_method=M%d" % number for number in range(9)))
    with pytest.raises(UnclearError, match="no end"):
        asked(PARTS, b'--x\r\nContent-Disposition: form-data; name="_method"\r\n')


def test_names() -> None:
    assert is_field(b"_method")
    for other in (b"", b"method", b"__method", b"x_method", b"_methods", b"-method"):
        assert not is_field(other)
