"""Names of header fields, as gateways between a client and a server may hand them on. Pure; it refuses nothing.

gateway_name("X_Client.Id")                               # "x-client-id"
alike({"x-a": "1", "x_a": "2"})                           # {"x-a": "1, 2", "x_a": "2"}
"""

from __future__ import annotations

from collections.abc import Mapping

_ODD = "!#$%&'*+.^_`|~"
_DASHED = {ord(character): "-" for character in _ODD}


def gateway_name(name: str) -> str:
    """A header's name as gateways may hand it on: lower case, `-` for all that is neither letter nor digit.

    An environment has no other characters (RFC 3875 §4.1.18): some make them `_`, some drop such headers.
    """
    return name.lower().translate(_DASHED)


def alike(untrusted_headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with the values of all that gateways take for one under its plain name; the other names stay beside it.

    Args:
        untrusted_headers: lower-case name → values joined by `, `.
    """
    odd = [name for name in untrusted_headers if not name.replace("-", "").isalnum()]
    found = dict(untrusted_headers)
    for name in odd:
        plain, value = gateway_name(name), untrusted_headers[name]
        found[plain] = f"{found[plain]}, {value}" if plain in found else value
    return found
