"""What mitmproxy does on every message and this process need not: run-time type checks, case folding by text.

Needs mitmproxy 12. Importing it changes two classes of mitmproxy for this process alone; what they answer stays the
same, which `tests/egress/test_lean.py` compares. Refuses nothing.

    import capsule.egress.lean          # before the first connection
"""

from __future__ import annotations

from typing import Any

from mitmproxy import http


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


for _name, _method in (("get_all", _values), ("get", _value), ("__getitem__", _item), ("__contains__", _has)):
    setattr(http.Headers, _name, _method)
setattr(http.MessageData, "__post_init__", _unchecked)  # noqa: B010 - a method, for the type checker
