"""HTTP/2 requests that become others when they are written as HTTP/1.1 (RFC 9113 §8.2, §8.3, §10.3)."""

from __future__ import annotations

from tests.egress.smuggling.case import Header, Http2, Http2Stream

_INNER = b"GET %P/inner HTTP/1.1\r\nHost: %H\r\n\r\n"


def _stream(
    *more: Header, method: bytes = b"GET", path: bytes = b"%P/outer", authority: bytes | None = b"%H",
    scheme: bytes | None = b"https", body: bytes = b"", trailers: tuple[Header, ...] = (),
) -> Http2Stream:  # fmt: skip
    pseudo = [(b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", path)]
    return tuple((name, value) for name, value in pseudo if value is not None) + more, body, trailers


def _case(name: str, *streams: Http2Stream, carried: tuple[str, ...] = ()) -> Http2:
    return Http2(name, streams, carried)


_END = b"\r\n\r\n"
CASES = [
    _case("plain", _stream(), carried=("/outer",)),
    _case("post", _stream(method=b"POST", body=b"hello"), carried=("/outer",)),
    _case("length", _stream((b"content-length", b"5"), method=b"POST", body=b"hello"), carried=("/outer",)),
    _case("host-agrees", _stream((b"host", b"%H")), carried=("/outer",)),
    _case("cookies", _stream((b"cookie", b"a=1"), (b"cookie", b"b=2")), carried=("/outer",)),
    # Line ends in any part that HTTP/1.1 writes into a line.
    _case("crlf-value", _stream((b"x", b"a" + _END + _INNER))),
    _case("lf-value", _stream((b"x", b"a\n\n" + _INNER.replace(b"\r", b"")))),
    _case("cr-value", _stream((b"x", b"a\rb"))),
    _case("null-value", _stream((b"x", b"a\0b"))),
    _case("crlf-name", _stream((b"x: y" + _END + _INNER, b"a"))),
    _case("crlf-path", _stream(path=b"%P/outer HTTP/1.1\r\nHost: %H" + _END + _INNER)),
    _case("lf-path", _stream(path=b"%P/outer\n\nGET %P/inner")),
    _case("space-path", _stream(path=b"%P/outer HTTP/1.1 x")),
    _case("crlf-method", _stream(method=b"GET %P/inner HTTP/1.1\r\nX: y\r\n\r\nGET")),
    _case("space-method", _stream(method=b"GET %P/inner HTTP/1.1")),
    _case("crlf-authority", _stream(authority=b"%H\r\nX: y")),
    _case("crlf-scheme", _stream(scheme=b"https\r\nX: y")),
    # Framing that HTTP/2 does by itself.
    _case("te-chunked", _stream((b"transfer-encoding", b"chunked"), method=b"POST", body=b"0\r\n\r\n" + _INNER)),
    _case("te-and-length", _stream((b"transfer-encoding", b"chunked"), (b"content-length", b"5"), body=b"hello")),
    _case("length-short", _stream((b"content-length", b"0"), method=b"POST", body=_INNER)),
    _case("length-long", _stream((b"content-length", b"99"), method=b"POST", body=b"hello")),
    _case("length-and-none", _stream((b"content-length", b"99"), method=b"POST")),
    _case("length-and-none-get", _stream((b"content-length", b"99"))),
    _case("length-none-said", _stream((b"content-length", b"0"), method=b"POST"), carried=("/outer",)),
    _case("trailers", _stream((b"content-length", b"5"), body=b"hello", trailers=((b"x", b"y"),)), carried=("/outer",)),
    _case("trailers-short", _stream((b"content-length", b"99"), body=b"hello", trailers=((b"x", b"y"),))),
    _case("trailers-length", _stream((b"content-length", b"99"), body=b"hello", trailers=((b"content-length", b"5"),))),
    _case("length-twice", _stream((b"content-length", b"5"), (b"content-length", b"0"), body=b"hello")),
    _case("length-list", _stream((b"content-length", b"5, 0"), method=b"POST", body=b"hello")),
    _case("length-spelled", _stream((b"content-length", b"+5"), method=b"POST", body=b"hello")),
    _case("get-body", _stream(body=_INNER), carried=("/outer",)),
    _case("connection", _stream((b"connection", b"keep-alive"))),
    _case("upgrade", _stream((b"upgrade", b"websocket"))),
    _case("keep-alive", _stream((b"keep-alive", b"1"))),
    _case("proxy-connection", _stream((b"proxy-connection", b"x"))),
    _case("te-gzip", _stream((b"te", b"gzip"))),
    # Names.
    _case("upper-name", _stream((b"X", b"a"))),
    _case("colon-name", _stream((b"transfer-encoding: chunked\r\nx", b"a"))),
    _case("colon-in-name", _stream((b"x:y", b"a"))),
    _case("space-name", _stream((b"x y", b"a"))),
    _case("space-after-name", _stream((b"content-length ", b"0"))),
    _case("empty-name", _stream((b"", b"a"))),
    _case("name-not-ascii", _stream((b"\xc3\xbc", b"a"))),
    # Who it is for, and what is missing or there twice.
    _case("authority-other", _stream(authority=b"other.example")),
    _case("host-other", _stream((b"host", b"other.example"))),
    _case("host-twice", _stream((b"host", b"%H"), (b"host", b"other.example"))),
    _case("authority-userinfo", _stream(authority=b"%H@other.example")),
    _case("authority-path", _stream(authority=b"%H/x")),
    _case("authority-port", _stream(authority=b"%H:81")),
    _case("authority-none", _stream(authority=None)),
    _case("authority-none-host", _stream((b"host", b"%H"), authority=None), carried=("/outer",)),
    _case("authority-empty", _stream(authority=b"")),
    _case("path-empty", _stream(path=b"")),
    _case("path-relative", _stream(path=b"outer")),
    _case("path-absolute", _stream(path=b"https://other.example%P/outer")),
    _case("path-twice", _stream((b":path", b"%P/inner"))),
    _case("path-late", _stream((b"x", b"y"), (b":path", b"%P/inner"))),
    _case("pseudo-unknown", _stream((b":x", b"y"))),
    _case("pseudo-protocol", _stream((b":protocol", b"websocket"), method=b"CONNECT")),
    _case("status", _stream((b":status", b"200"))),
    _case("scheme-none", _stream(scheme=None)),
    _case("scheme-http", _stream(scheme=b"http"), carried=("/outer",)),
    _case("connect", (((b":method", b"CONNECT"), (b":authority", b"other.example:443")), b"", ())),
]  # fmt: skip
