"""What the service says to the nursery of monitors (docs/formats/machine-monitor.md): begin one.

Pure. Refuses a sentence that is not of the documented form. Descriptors go with it, in this order: where it says that
it is ready, where its complaints go, and for a machine that goes on from a memory and a state these two.

    encode(Begin(session="/…/sessions/m-1a2b3c4d", clone=True))
"""

from __future__ import annotations

import msgspec

from capsem.errors import WireError

LIMIT = 16384
"""Bytes of one sentence."""


class Begin(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A monitor.

    Attributes:
        session: the directory of the machine to watch over; None: a template is to be made.
        template: the directory of the template to make; None: a machine is to be started.
        clone: whether a memory and a state go with it.
        ahead: whether the machine is nobody's yet: it waits to become one, or for the service to hang up.
        leased: whether it is there for one client, and ends with that (`capsem.wire.monitor.Lease`).
    """

    session: str | None = None
    template: str | None = None
    clone: bool = False
    ahead: bool = False
    leased: bool = False

    @property
    def descriptors(self) -> int:
        """How many go with it."""
        return 4 if self.clone else 2


_DECODER: msgspec.json.Decoder[Begin] = msgspec.json.Decoder(Begin)


def encode(said: Begin) -> bytes:
    """The bytes of one sentence."""
    return msgspec.json.encode(said)


def decode(untrusted: bytes, descriptors: int) -> Begin:
    """A sentence that came with so many descriptors.

    Raises:
        WireError: it is not of the documented form.
    """
    try:
        said = _DECODER.decode(untrusted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(
            f"not a nursery's sentence: {error}", next_step="are both sides of one version?"
        ) from None
    if (said.session is None) == (said.template is None) or (
        (said.clone or said.ahead or said.leased) and said.session is None
    ):
        raise WireError(
            "a nursery begins a machine or a template", next_step="are both sides of one version?"
        )
    if said.descriptors != descriptors:
        raise WireError(
            f"{descriptors} descriptors came, not {said.descriptors}",
            next_step="are both sides of one version?",
        )
    return said
