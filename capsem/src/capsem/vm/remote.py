"""Where an MCP server is that speaks HTTP, and what of its headers may stand in a file. Pure.

Refuses what two readers could take for different places: a user, a fragment, a host or port in another spelling; and
headers that are the transport's, or hold a credential that is no secret of the policy.

    parse_address("https://mcp.example/mcp")                     # Address(True, "mcp.example", 443, "/mcp")
    field_problem("authorization", "Bearer ${secrets.forge}")    # None
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from capsule.policy.addresses import HostError, normalise_host

SECRET = re.compile(r"\$\{secrets\.([a-z][a-z0-9_-]{0,31})\}")
"""A secret of the policy in a header's value."""
TARGET = 2048
"""Characters of a path with its query."""
_TARGET = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
_FIELD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,2046}[\x21-\x7e])?")
OWN = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
        "host", "keep-alive", "last-event-id", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that are the transport's, beside all `mcp-…`."""
_CREDENTIALS = re.compile(r"(?:.*[-_])?(?:authorization|auth|cookie|key|apikey|password|secret|token)")
"""Headers whose value is a secret of the policy, or nothing."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is.

    Attributes:
        secure: over TLS.
        host: a name or an IPv4 address in its one spelling.
        port: of it.
        target: path and query.
    """

    secure: bool
    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        """What `parse_address` makes this of."""
        scheme, usual = ("https", 443) if self.secure else ("http", 80)
        return f"{scheme}://{self.host}{'' if self.port == usual else f':{self.port}'}{self.target}"


def parse_address(untrusted_url: str) -> Address:
    """What a URL names.

    Raises:
        ValueError: it names no server: another scheme, a user, a fragment, a host in another spelling.
    """
    scheme, mark, rest = untrusted_url.partition("://")
    if not mark or scheme not in ("https", "http"):
        raise ValueError("no URL that begins with https:// or http://")
    authority, slash, target = rest.partition("/")
    target = f"{slash}{target}" or "/"
    if "#" in rest or "?" in authority or "@" in authority:
        raise ValueError("a URL with a user or a fragment, or a query without a path")
    if len(target) > TARGET or _TARGET.fullmatch(target) is None:
        raise ValueError(f"a path of more than {TARGET} characters, or with ones that a URL has not")
    name, colon, number = authority.partition(":")
    if colon and re.fullmatch(r"[1-9][0-9]{0,4}", number) is None:
        raise ValueError("no port from 1 to 65535")
    port = int(number) if colon else 443 if scheme == "https" else 80
    if port > 65535:
        raise ValueError("no port from 1 to 65535")
    try:
        return Address(scheme == "https", normalise_host(name).name, port, target)
    except HostError as error:
        raise ValueError(error.what) from None


def field_problem(name: str, value: str) -> str | None:
    """Why a header of the file is none; None: it is one."""
    low = name.lower()
    if _FIELD.fullmatch(name) is None:
        return "no header's name"
    if low in OWN or low.startswith("mcp-"):
        return "a header of the transport itself"
    if _VALUE.fullmatch(value) is None:
        return "a value that is not 1 to 2048 printable characters of ASCII"
    if "${" in SECRET.sub("", value):
        return "a `${…}` that is not ${secrets.NAME}"
    if _CREDENTIALS.fullmatch(low) and SECRET.search(value) is None:
        return "a credential that stands in the file; name a secret of the policy: ${secrets.NAME}"
    return None
