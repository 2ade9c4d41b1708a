"""HTTP/1.1 requests that readers have disagreed about (RFC 9112 §2.2, §5, §6, §7.1, §11.2)."""

from __future__ import annotations

from tests.egress.smuggling.case import Http1

_OUTER = ("/outer",)
_H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
_INNER = b"GET %P/inner HTTP/1.1\r\nHost: %H\r\n\r\n"


def _post(headers: bytes, body: bytes) -> bytes:
    return b"POST %P/outer HTTP/1.1\r\nHost: %H\r\n" + headers + b"\r\n" + body


def _get(head: bytes) -> bytes:
    return b"GET %P/outer HTTP/1.1\r\nHost: %H\r\n" + head + b"\r\n"


_CHUNKED = b"0\r\n\r\n"

# Which of two framings counts.
CASES = [
    Http1("cl-te", _post(b"Content-Length: 60\r\nTransfer-Encoding: chunked\r\n", _CHUNKED + _INNER)),
    Http1(
        "te-cl",
        _post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"5\r\nhello\r\n0\r\n\r\n" + _INNER),
    ),
    Http1("cl-0-te", _post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", _CHUNKED + _INNER)),
    Http1("two-lengths", _post(b"Content-Length: 5\r\nContent-Length: 0\r\n", b"hello" + _INNER)),
    Http1(
        "two-equal-lengths", _post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), ambiguous=False
    ),
    Http1("length-list", _post(b"Content-Length: 5, 0\r\n", b"hello" + _INNER)),
    Http1("length-plus", _post(b"Content-Length: +5\r\n", b"hello" + _INNER)),
    Http1("length-minus", _post(b"Content-Length: -1\r\n", b"hello" + _INNER)),
    Http1("length-hex", _post(b"Content-Length: 0x5\r\n", b"hello" + _INNER)),
    Http1("length-underscore", _post(b"Content-Length: 1_0\r\n", b"hellohello" + _INNER)),
    Http1("length-spaced", _post(b"Content-Length: 1 0\r\n", b"hellohello" + _INNER)),
    Http1("length-empty", _post(b"Content-Length:\r\n", b"" + _INNER)),
    Http1("length-huge", _post(b"Content-Length: 99999999999999999999999999\r\n", b"" + _INNER)),
    Http1("length-other-digits", _post(b"Content-Length: \xd9\xa5\r\n", b"hello" + _INNER)),
]
# Spellings of `chunked` that one reader takes and another does not.
CASES += [
    Http1(f"te-{name}", _post(b"Content-Length: 5\r\n" + line + b"\r\n", _CHUNKED + _INNER))
    for name, line in {
        "space-before-colon": b"Transfer-Encoding : chunked",
        "tab-before-colon": b"Transfer-Encoding\t: chunked",
        "vertical-tab": b"Transfer-Encoding:\x0bchunked",
        "xchunked": b"Transfer-Encoding: xchunked",
        "quoted": b'Transfer-Encoding: "chunked"',
        "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
        "list": b"Transfer-Encoding: chunked, identity",
        "identity-first": b"Transfer-Encoding: identity, chunked",
        "folded": b"Transfer-Encoding:\r\n chunked",
        "space-line": b" Transfer-Encoding: chunked",
        "bare-lf-before": b"X: y\nTransfer-Encoding: chunked",
        "bare-cr-before": b"X: y\rTransfer-Encoding: chunked",
        "null": b"Transfer-Encoding: chunked\x00",
        "upper": b"TRANSFER-ENCODING: CHUNKED",
        "underscore-cl": b"Content_Length: 0\r\nTransfer-Encoding: chunked",
    }.items()
]
# Chunks.
CASES += [
    Http1(f"chunk-{name}", _post(b"Transfer-Encoding: chunked\r\n", body), carried, ambiguous)
    for name, body, carried, ambiguous in (
        ("plain", b"5\r\nhello\r\n0\r\n\r\n", ("/outer",), False),
        ("then-next", b"5\r\nhello\r\n0\r\n\r\n" + _INNER, ("/outer", "/inner"), False),
        ("extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n" + _INNER, ("/outer", "/inner"), False),
        ("extension-lf", b"5;a\nb\r\nhello\r\n0\r\n\r\n" + _INNER, (), True),
        ("bare-lf", b"5\nhello\n0\n\n" + _INNER, (), True),
        ("size-0x", b"0x5\r\nhello\r\n0\r\n\r\n" + _INNER, (), True),
        ("size-plus", b"+5\r\nhello\r\n0\r\n\r\n" + _INNER, (), True),
        ("size-minus", b"-5\r\nhello\r\n0\r\n\r\n" + _INNER, (), True),
        ("size-empty", b"\r\nhello\r\n0\r\n\r\n" + _INNER, (), True),
        ("size-wraps", b"10000000000000005\r\nhello\r\n0\r\n\r\n" + _INNER, ("/outer",), True),
        ("no-line-end-after-data", b"5\r\nhello0\r\n\r\n" + _INNER, (), True),
        ("data-too-long", b"5\r\nhello world\r\n0\r\n\r\n" + _INNER, (), True),
        (
            "trailer-length",
            b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n" + _INNER,
            ("/outer", "/inner"),
            True,
        ),
        ("trailer-request", b"5\r\nhello\r\n0\r\nGET %P/trailer HTTP/1.1\r\nX: y\r\n\r\n" + _INNER, (), True),
    )
]
# Lines and names.
CASES += [
    Http1("plain", _get(b""), ("/outer",), ambiguous=False),
    Http1("pipelined", _get(b"") + _INNER, ("/outer", "/inner"), ambiguous=False),
    Http1(
        "get-with-body",
        _get(b"Content-Length: 5\r\n") + b"hello" + _INNER,
        ("/outer", "/inner"),
        ambiguous=False,
    ),
    Http1("bare-lf-head", b"GET %P/outer HTTP/1.1\nHost: %H\n\n", ("/outer",)),
    Http1("bare-cr-in-value", _get(b"X: a\rGET %P/inner HTTP/1.1\r\n")),
    Http1("lf-cr", b"GET %P/outer HTTP/1.1\n\rHost: %H\n\r\n\r"),
    Http1("null-in-value", _get(b"X: a\x00b\r\n")),
    Http1("null-in-name", _get(b"X\x00Y: a\r\n")),
    Http1("fold", _get(b"X: a\r\n b\r\n")),
    Http1("fold-of-host", b"GET %P/outer HTTP/1.1\r\nHost:\r\n %H\r\n\r\n"),
    Http1("name-with-space", _get(b"X Y: a\r\n")),
    Http1("name-space-colon", _get(b"X : a\r\n")),
    Http1("name-empty", _get(b": a\r\n")),
    Http1("no-colon", _get(b"GET %P/inner HTTP/1.1\r\n")),
    Http1("name-with-slash", _get(b"X/Y: a\r\n")),
    Http1("name-not-ascii", _get("Ü: a\r\n".encode())),
    Http1("first-header-space", b"GET %P/outer HTTP/1.1\r\n X: y\r\nHost: %H\r\n\r\n"),
    Http1("leading-empty-line", b"\r\nGET %P/outer HTTP/1.1\r\nHost: %H\r\n\r\n"),
]
# The request line, and who it is for.
CASES += [
    Http1("absolute-agrees", b"GET http://%H%P/outer HTTP/1.1\r\nHost: %H\r\n\r\n", _OUTER, ambiguous=False),
    Http1("absolute-other", b"GET http://other.example%P/outer HTTP/1.1\r\nHost: %H\r\n\r\n"),
    Http1("absolute-host-other", b"GET http://%H%P/outer HTTP/1.1\r\nHost: other.example\r\n\r\n"),
    Http1("absolute-userinfo", b"GET http://%H@other.example%P/outer HTTP/1.1\r\nHost: %H\r\n\r\n"),
    Http1("absolute-https", b"GET https://%H%P/outer HTTP/1.1\r\nHost: %H\r\n\r\n", _OUTER),
    Http1("host-other", b"GET %P/outer HTTP/1.1\r\nHost: other.example\r\n\r\n"),
    Http1("host-twice", b"GET %P/outer HTTP/1.1\r\nHost: %H\r\nHost: other.example\r\n\r\n"),
    Http1("host-twice-first", b"GET %P/outer HTTP/1.1\r\nHost: other.example\r\nHost: %H\r\n\r\n"),
    Http1("host-list", b"GET %P/outer HTTP/1.1\r\nHost: %H, other.example\r\n\r\n"),
    Http1("host-userinfo", b"GET %P/outer HTTP/1.1\r\nHost: %H@other.example\r\n\r\n"),
    Http1("host-path", b"GET %P/outer HTTP/1.1\r\nHost: %H/other\r\n\r\n"),
    Http1("host-port", b"GET %P/outer HTTP/1.1\r\nHost: %H:81\r\n\r\n"),
    Http1("host-none", b"GET %P/outer HTTP/1.1\r\n\r\n"),
    Http1("host-empty", b"GET %P/outer HTTP/1.1\r\nHost:\r\n\r\n"),
    Http1("host-none-1.0", b"GET %P/outer HTTP/1.0\r\n\r\n"),
    Http1("space-in-target", b"GET %P/outer /inner HTTP/1.1\r\nHost: %H\r\n\r\n"),
    Http1("tab-separated", b"GET\t%P/outer\tHTTP/1.1\r\nHost: %H\r\n\r\n", _OUTER),
    Http1("no-version", b"GET %P/outer\r\nHost: %H\r\n\r\n"),
    Http1("version-1.2", b"GET %P/outer HTTP/1.2\r\nHost: %H\r\n\r\n"),
    Http1("version-2", b"GET %P/outer HTTP/2.0\r\nHost: %H\r\n\r\n"),
    Http1("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Http1("method-lower-space", b" GET %P/outer HTTP/1.1\r\nHost: %H\r\n\r\n"),
    Http1("method-of-two", b"GE(T %P/outer HTTP/1.1\r\nHost: %H\r\n\r\n"),
    Http1("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: %H\r\n\r\n", ("*",), ambiguous=False),
    Http1("target-without-slash", b"GET outer HTTP/1.1\r\nHost: %H\r\n\r\n"),
    Http1("target-two-slashes", b"GET //x%P/outer HTTP/1.1\r\nHost: %H\r\n\r\n", ("//x%P/outer",), ambiguous=False),
    Http1("connect", b"CONNECT other.example:443 HTTP/1.1\r\nHost: %H\r\n\r\n"),
    Http1("upgrade-h2c", _get(_H2C), _OUTER, ambiguous=False),
    Http1("connection-drops-length", _post(b"Connection: content-length\r\nContent-Length: 1\r\n", b"x"), (), False),
    Http1("connection-drops-host", _get(b"Connection: close, hOST\r\n"), (), ambiguous=False),
    Http1("expect", _post(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello"), _OUTER, ambiguous=False),
]  # fmt: skip
