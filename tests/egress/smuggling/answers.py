"""Answers of a server that a program could take for more, or for other, than one answer (RFC 9112 §6.3)."""

from __future__ import annotations

from tests.egress.smuggling.case import Answer

_SECOND = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled"

_HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"


def _ok(headers: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n" + body


CASES = [
    Answer("plain", _ok(b"content-length: 5\r\n", b"hello"), b"hello"),
    Answer("chunked", _ok(b"transfer-encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
    Answer("until-close", _ok(b"connection: close\r\n", b"hello"), b"hello"),
    Answer("one-more", _ok(b"content-length: 5\r\n", b"hello") + _SECOND, b"hello"),
    Answer("interim", _HINTS + _ok(b"content-length: 5\r\n", b"hello"), b"hello"),
    Answer("cl-te", _ok(b"content-length: 5\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n" + _SECOND)),
    Answer("two-lengths", _ok(b"content-length: 5\r\ncontent-length: 0\r\n", b"hello" + _SECOND)),
    Answer("length-list", _ok(b"content-length: 5, 0\r\n", b"hello" + _SECOND)),
    Answer("length-minus", _ok(b"content-length: -5\r\n", b"hello")),
    Answer("length-hex", _ok(b"content-length: 0x5\r\n", b"hello")),
    Answer("te-space", _ok(b"transfer-encoding : chunked\r\n", b"0\r\n\r\n" + _SECOND)),
    Answer("te-unknown", _ok(b"transfer-encoding: xchunked\r\n", b"0\r\n\r\n" + _SECOND)),
    Answer("null", _ok(b"x: a\0b\r\ncontent-length: 5\r\n", b"hello")),
    Answer("bare-cr", _ok(b"x: a\rcontent-length: 0\r\ncontent-length: 5\r\n", b"hello")),
    Answer("name-space", _ok(b"x y: a\r\ncontent-length: 5\r\n", b"hello")),
    Answer("no-status", b"HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello"),
    Answer("status-text", b"HTTP/1.1 2xx OK\r\ncontent-length: 5\r\n\r\nhello"),
    Answer("switch-unasked", _SWITCH + _SECOND),
    Answer("chunk-size", _ok(b"transfer-encoding: chunked\r\n", b"0x5\r\nhello\r\n0\r\n\r\n" + _SECOND)),
    Answer("not-http", b"SSH-2.0-x\r\n"),
]  # fmt: skip
