"""Model calls of one session: recognised by their requests, followed through their answers, priced and recorded.

Refuses nothing: what is not understood is recorded as unknown. Counts tokens and microdollars for a budget.

    call = meter.begin("POST", "api.example", "/v1/messages", body)      # a ModelCall, or None
    meter.finish(call, "e-7", program)                                    # records egress.model
"""

from __future__ import annotations

import datetime
from typing import Any

from capsule.egress.model.call import ModelCall, dialect_of
from capsule.egress.model.price import cost
from capsule.egress.model.turns import Turns
from capsule.egress.recording import Recorder


def wants_body(method: str, path: str) -> bool:
    """Whether a request may be a model call, whose body tells."""
    return method == "POST" and dialect_of(path) is not None


class Meter:
    """The model calls of one session.

    Attributes:
        tokens: used so far, in and out.
        microdollars: spent so far, where a price is known.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._turns = Turns()
        self.tokens = 0
        self.microdollars = 0

    def begin(self, method: str, host: str, path: str, body: bytes | None) -> ModelCall | None:
        """A call when method, host, path and body say so."""
        return ModelCall.begin(host, path, body) if wants_body(method, path) else None

    def finish(self, call: ModelCall, http_id: str, fields: dict[str, Any]) -> None:
        """The answer is over, or never came."""
        section = call.event()
        event_id = self._recorder.next_id()
        price = cost(call.provider, section.get("name"), call.answer, datetime.datetime.now(datetime.UTC))
        section["http_id"] = http_id
        section["priced"] = price is not None
        if price is not None:
            section["cost_microdollars"] = price
            self.microdollars += price
        if call.request is not None:
            previous = self._turns.link(call.request, event_id)
            if previous is not None:
                section["previous"] = previous
        self._turns.answered(section.get("response_id"), event_id)
        self.tokens += (section.get("input_tokens") or 0) + (section.get("output_tokens") or 0)
        self._recorder.write("egress.model", {**fields, "model": section}, event_id=event_id)
