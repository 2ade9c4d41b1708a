"""What stands between an upstream's words and the program: reason, header names and values, trailers, our own texts.

Needs Python 3.12 and mitmproxy 12. Bodies are `returning`'s. Refuses nothing: each value of a secret becomes its
placeholder. In names, which HTTP/2 has in
lower case only, a value is found in any case. What quotes an upstream (an error page) goes through `text`.

    guard = Guard(vault, "a.example")
    guard.head(response)                     # how many values were taken out
    guard.text("bad status line: b'…'")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mitmproxy.http import Headers, Response

    from capsule.egress.filling import Vault


class Guard:
    """The words of one host.

    Args:
        vault: the session's secrets; None: it has none.
        host: that the connection is to.
    """

    def __init__(self, vault: Vault | None, host: str) -> None:
        self._vault = vault
        self._host = host

    def head(self, response: Response) -> int:
        """Frees status line and headers, before anybody else looks at them."""
        if self._vault is None or not (echoes := self._vault.secrets.echoes(self._host)):
            return 0
        reason, count = echoes.replace(response.data.reason)
        response.data.reason = reason
        return count + self.fields(response.headers)

    def fields(self, headers: Headers) -> int:
        """Frees headers or trailers."""
        if self._vault is None or not (echoes := self._vault.secrets.echoes(self._host)):
            return 0
        lower = self._vault.secrets.lower_echoes(self._host)
        fields, total = [], 0
        for name, value in headers.fields:
            freed, count = echoes.replace(name)
            if not count and (found := lower.replace(name.lower()))[1]:
                freed, count = found
            freed_value, further = echoes.replace(value)
            fields.append((freed, freed_value))
            total += count + further
        if total:
            headers.fields = tuple(fields)
        return total

    def text(self, text: str) -> str:
        """Words of ours that go to the program, whoever they quote."""
        if self._vault is None:
            return text
        return self._vault.secrets.mask(text.encode("utf-8", "backslashreplace")).decode("utf-8", "replace")
