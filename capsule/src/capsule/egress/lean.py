"""What mitmproxy does on every message and this process need not: run-time type checks, case folding by text, copies.

Needs mitmproxy 12, hyperframe 6 and pyOpenSSL. Importing it changes classes of theirs for this process alone; what they
answer stays the same, which `tests/egress/test_lean.py` compares, but for how a frame of HTTP/2 is shown: h2 asks that
of each one, for a log that nobody keeps. Bytes of TLS are read into one buffer of this process, record after record,
and leave it in one piece: one thread only. Refuses nothing.

    import capsule.egress.lean          # `layers` does, before the first connection
"""

from __future__ import annotations

from typing import Any

from hyperframe.frame import Frame
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import tls as layers_tls
from OpenSSL import SSL

_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_RECORD = 1 << 14
"""Bytes of the longest record (RFC 8446 §5.1)."""
_SIZE = 32 * _RECORD
_BUFFER = _ffi.new("char[]", _SIZE)


def _encoded(name: str | bytes) -> bytes:
    return (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()


def _values(headers: http.Headers, name: str | bytes) -> list[str]:
    """All values of one name, in order."""
    wanted = _encoded(name)
    size = len(wanted)
    return [
        value.decode("utf-8", "surrogateescape")
        for key, value in headers.fields
        if len(key) == size and key.lower() == wanted
    ]


def _value(headers: http.Headers, name: str | bytes, default: Any = None) -> Any:
    """All values of one name as one text, or the default."""
    found = _values(headers, name)
    return ", ".join(found) if found else default


def _item(headers: http.Headers, name: str | bytes) -> str:
    found = _values(headers, name)
    if not found:
        raise KeyError(name)
    return ", ".join(found)


def _has(headers: http.Headers, name: object) -> bool:
    if not isinstance(name, str | bytes):
        return False
    wanted = _encoded(name)
    return any(key.lower() == wanted for key, _ in headers.fields)


def _unchecked(_: http.MessageData) -> None:
    """The types are those of mitmproxy's own parsers."""


def _plain(tls: SSL.Connection) -> tuple[bytes, SSL.Error | None]:
    """What can be read now, and what ended it but that no more came."""
    connection: Any = tls
    found, at = b"", 0
    while True:
        got = _lib.SSL_read(connection._ssl, _BUFFER + at, _SIZE - at)
        if got > 0:
            at += got
            if _SIZE - at < _RECORD:
                found, at = found + _ffi.buffer(_BUFFER, at)[:], 0
            continue
        ended: SSL.Error | None = None
        try:
            connection._raise_ssl_error(connection._ssl, got)
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            ended = error
        last = _ffi.buffer(_BUFFER, at)[:]
        return found + last if found else last, ended


def _receive_data(self: layers_tls.TLSLayer, data: bytes) -> Any:
    """As mitmproxy's, in one piece."""
    if data:
        self.tls.bio_write(data)
    plain, ended = _plain(self.tls)
    # Only now: reading may have moved the handshake on, or answered a change of keys.
    yield from self.tls_interact()
    if plain:
        yield from self.event_to_child(events.DataReceived(self.conn, plain))
    if isinstance(ended, SSL.ZeroReturnError):
        self.conn.state &= ~ConnectionState.CAN_READ
        yield from self.event_to_child(events.ConnectionClosed(self.conn))


def _tls_interact(self: layers_tls.TLSLayer) -> Any:
    """As mitmproxy's, in one piece."""
    connection: Any = self.tls
    while (got := _lib.BIO_read(connection._from_ssl, _BUFFER, _SIZE)) > 0:
        yield commands.SendData(self.conn, _ffi.buffer(_BUFFER, got)[:])


setattr(Frame, "__repr__", object.__repr__)  # noqa: B010
setattr(layers_tls.TLSLayer, "receive_data", _receive_data)  # noqa: B010
setattr(layers_tls.TLSLayer, "tls_interact", _tls_interact)  # noqa: B010
for _name, _method in (("get_all", _values), ("get", _value), ("__getitem__", _item), ("__contains__", _has)):
    setattr(http.Headers, _name, _method)
setattr(http.MessageData, "__post_init__", _unchecked)  # noqa: B010 - a method, for the type checker
