"""Which version a client and the service are, told in every question and answer, and what follows where they differ.

Pure. `WIRE` is counted up when a sentence between processes changes so that the other side would not understand it, or
would understand something else. Refuses to take a word that is no version for one: it is of somebody who does not tell.

    judge(client, service)                   # Fit.REPLACE: the service is older, and its machines outlive it
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

VERSION = "0.1.0"
"""Of the distribution: what its own metadata says, which takes longer to ask than a client's whole question."""
WIRE = 5
"""1: until machines had leases. 2: with them, and with these words. 3: one that goes on may have one. 4: a lease is
told that its client is done. 5: commands are listed and attended to by others, and a machine may have a deadline."""
VERSION_FIELD, WIRE_FIELD = "capsem-version", "capsem-wire"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!-]{0,63}")
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Version:
    """One side's.

    Attributes:
        capsem: of the distribution.
        wire: of what is said between processes.
    """

    capsem: str
    wire: int = WIRE

    def __str__(self) -> str:
        return f"capsem {self.capsem} (wire {self.wire})"

    @property
    def fields(self) -> dict[str, str]:
        """As it is told in the head of a question or an answer."""
        return {VERSION_FIELD: self.capsem, WIRE_FIELD: str(self.wire)}


OURS = Version(VERSION)
"""This installation's."""


class Fit(enum.Enum):
    """What follows."""

    GOES = "they understand each other"
    REPLACE = "the service is older: another one takes its place"
    REFUSED = "the client is older, and would be misunderstood"


def told(untrusted_fields: Mapping[str, str]) -> Version | None:
    """What the other side says it is; None where it says nothing of the form.

    Args:
        untrusted_fields: of its head, names in small letters.
    """
    version, wire = untrusted_fields.get(VERSION_FIELD, ""), untrusted_fields.get(WIRE_FIELD, "")
    if _VERSION.fullmatch(version) is None or _NUMBER.fullmatch(wire) is None:
        return None
    return Version(version, int(wire))


def judge(client: Version, service: Version | None) -> Fit:
    """What follows from two versions; a service that tells none is from before there were any."""
    if service is None:
        return Fit.REPLACE
    ours, theirs = (_order(client), client.wire), (_order(service), service.wire)
    if ours > theirs:
        return Fit.REPLACE
    return Fit.GOES if client.wire == service.wire else Fit.REFUSED


def _order(version: Version) -> tuple[int, ...]:
    """The numbers of its release; what comes behind them (rc1, dev) makes no difference."""
    release = re.match(r"\d+(\.\d+)*", version.capsem)
    return tuple(int(number) for number in release[0].split(".")) if release is not None else ()
