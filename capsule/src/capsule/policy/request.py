"""A request as a person writes it: `GET https://api.example.org/v1`, in examples and on the command line.

Pure. Refused: other schemes than http and https, users in the URL, hosts that are none, fragments.

    parse_request("https://API.example.org/v1").text      # 'GET https://api.example.org/v1'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from capsule.policy.addresses import HostError, normalise_host
from capsule.policy.paths import PathError

_FORM = re.compile(r"(?:([A-Z][A-Z-]{0,31}) )?(https?)://([^/?#\\]+)([/?][^#]*)?")
_PORTS = {"https": 443, "http": 80}
_EXPECTED = "[METHOD] URL such as 'POST https://api.example.org/v1'"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `path` with its query, `port` always there."""

    method: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def text(self) -> str:
        """The one spelling."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.method} {self.scheme}://{self.host}{port}{self.path}"


def parse_request(text: str) -> Request:
    """The request that a text names; GET when it names no method.

    Raises:
        PathError: when it is not a request of the language.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise PathError(f"the request {text[:120]!r}", _EXPECTED)
    method, scheme, authority, path = match.groups()
    host, colon, port = authority.partition(":")
    if colon and "@" not in authority and not authority.startswith("["):
        if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
            raise PathError(f"the request {text[:120]!r} has no sound port", "a number from 1 to 65535")
        authority = host
    try:
        name = normalise_host(authority).name
    except HostError as fault:
        raise PathError(fault.what, fault.expected, fault.next_step) from None
    if path is None or path.startswith("?"):
        path = "/" + (path or "")
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in path):
        raise PathError("a request with a space or a control character in its path", next_step="escape it")
    return Request(method or "GET", scheme, name, int(port) if port else _PORTS[scheme], path)
