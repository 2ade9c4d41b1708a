"""Which call goes on from which: by the response it names, else by the longest run of messages already sent.

Bounded: the oldest calls are forgotten.

    turns.link(request, "e-7")      # the id of the turn before, or None; remembers this one
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Final, TypeVar

from blake3 import blake3

from capsule.egress.model.shape import Request

Key = TypeVar("Key", bytes, str)

MOST: Final = 512
"""Calls that are remembered."""


class Turns:
    """The conversations of one session."""

    def __init__(self) -> None:
        self._by_messages: OrderedDict[bytes, str] = OrderedDict()
        self._by_response: OrderedDict[str, str] = OrderedDict()

    def link(self, request: Request, event_id: str) -> str | None:
        """The event id of the call that this one goes on from; remembers this one under its messages."""
        previous = self._by_response.get(request.previous) if request.previous else None
        state = blake3()
        digest = b""
        for count, message in enumerate(request.messages, 1):
            try:
                text = json.dumps(message, sort_keys=True, separators=(",", ":"))
            except RecursionError:  # interpreters read deeper than they write: such a call begins anew
                return None
            state.update(text.encode())
            state.update(b"\0")
            digest = state.digest()
            reached = self._by_messages.get(digest)
            if reached is not None and count < len(request.messages) and request.previous is None:
                previous = reached  # all messages of an earlier call again are a repetition, and no turn
        if digest:
            _remember(self._by_messages, digest, event_id)
        return previous

    def answered(self, response_id: str | None, event_id: str) -> None:
        """The call's answer has this id."""
        if response_id:
            _remember(self._by_response, response_id, event_id)


def _remember(table: OrderedDict[Key, str], key: Key, event_id: str) -> None:
    table[key] = event_id
    table.move_to_end(key)
    if len(table) > MOST:
        table.popitem(last=False)
