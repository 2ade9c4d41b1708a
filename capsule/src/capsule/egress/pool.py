"""The addresses that allowed names stand for inside a sandbox, one a name, the same all through a run.

Pure. They come from 198.18.0.0/15, which is set aside for benchmarks (RFC 2544, RFC 6890) and routed nowhere; the
resolver's own address is left out. Refuses more names than `limit`: a command that invents names must not grow this
process. An address is never given to a second name.

    pool = Pool()
    pool.address("pkgs.org")     # four bytes: 198.18.0.2
    pool.name("198.18.0.2")      # "pkgs.org"
"""

from __future__ import annotations

RESOLVER = "198.18.0.1"
"""Where the sandbox's `resolv.conf` points."""
FIRST = 0xC6120002  # 198.18.0.2
LAST = 0xC613FFFE  # 198.19.255.254; the one after it is the broadcast address
NAMES = 32_768
"""How many names one run may use unless told otherwise."""


class PoolFullError(Exception):
    """Every address that this run may use has its name."""


class Pool:
    """Names to addresses and back; both directions are exact.

    Args:
        limit: at most this many names.

    Raises:
        ValueError: a limit that is not between 1 and the size of the range.
    """

    def __init__(self, limit: int = NAMES) -> None:
        if not 1 <= limit <= LAST - FIRST + 1:
            raise ValueError(f"a pool of {limit} names: between 1 and {LAST - FIRST + 1}")
        self._limit = limit
        self._addresses: dict[str, bytes] = {}
        self._names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def address(self, name: str) -> bytes:
        """The four bytes that stand for a name (lower case, without a final dot).

        Raises:
            PoolFullError: the name is new and the limit is reached.
        """
        found = self._addresses.get(name)
        if found is not None:
            return found
        if len(self._addresses) >= self._limit:
            raise PoolFullError(f"this run has used {self._limit} names; a new one gets no address")
        packed = (FIRST + len(self._addresses)).to_bytes(4, "big")
        self._addresses[name] = packed
        self._names[".".join(map(str, packed))] = name
        return packed

    def name(self, address: str) -> str | None:
        """The name that a dotted address stands for, or None when it was never handed out."""
        return self._names.get(address)
