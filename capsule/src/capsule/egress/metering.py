"""Model calls of one session, and its budget: recognised by their requests, followed through their answers, priced.

What is not understood passes and is recorded as unknown. Refuses a request or a call that does not fit into what is
left of the budget, before it is sent; what it used is settled when it is over.

    call = meter.begin("POST", "api.example", "/v1/messages", body)      # a ModelCall, or None
    meter.finish(call, "e-7", program)                                    # records egress.model
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from capsule.egress.budget import Budget, Exhausted, Limits, Reservation
from capsule.egress.layers import BODY_LIMIT
from capsule.egress.model.call import ModelCall, dialect_of, provider_of
from capsule.egress.model.price import cost
from capsule.egress.model.shape import Answer
from capsule.egress.model.turns import Turns
from capsule.egress.recording import Recorder
from capsule.egress.verdict import Verdict
from capsule.policy.urlpath import readings

if TYPE_CHECKING:
    from capsule.egress.story import Story


USUAL = 4096
"""Tokens that are set aside for an answer whose request says no maximum, as far as they are there."""
UNSEEN = Exhausted(
    "tokens",
    "a call that goes on in the background uses what nobody sees here, and the run's tokens or dollars are limited",
    "ask without `background`, or leave network.budget.tokens and dollars out",
)


def wants_body(method: str, path: str) -> bool:
    """Whether a request may be a model call, whose body tells."""
    return method.upper() == "POST" and dialect_of(path) is not None


class Meter:
    """The model calls of one session, and its budget.

    Attributes:
        budget: what is left of it.
        counts_bytes: bytes are limited.
    """

    def __init__(self, recorder: Recorder, limits: Limits) -> None:
        self._recorder = recorder
        self._turns = Turns()
        self.budget = Budget(limits)
        self.counts_bytes = limits.bytes is not None

    def begin(self, method: str, host: str, path: str, body: bytes | None) -> ModelCall | None:
        """A call when method, host, path and body say so."""
        return ModelCall.begin(host, path, body) if wants_body(method, path) else None

    def reserve(self, call: ModelCall | None, size: int | None) -> Reservation | Exhausted:
        """Takes what a request may use; what a call reads is estimated from the `size` of its body in bytes.

        None: longer than anybody looks at; then it is held to be as long as is looked at.
        """
        if call is None or not self.budget.of_calls:
            return self.budget.reserve(requests=1)
        request = call.request
        if request is not None and request.background:
            return UNSEEN
        reads = (BODY_LIMIT if size is None else size) // 4
        answers = request.answers if request else 1
        most = request.max_tokens if request else None
        writes, more = (most * answers, 0) if most else (1, USUAL * answers)
        price = self._priced(call, reads, writes)
        besides = {"tokens": more}
        if more and price is not None:
            besides["microdollars"] = (self._priced(call, reads, writes + more) or price) - price
        return self.budget.reserve(requests=1, tokens=reads + writes, microdollars=price, besides=besides)

    @staticmethod
    def _priced(call: ModelCall, reads: int, writes: int) -> int | None:
        name = call.request.name if call.request else None
        answer = Answer(input_tokens=reads, output_tokens=writes)
        return cost(call.provider, name, answer, datetime.datetime.now(datetime.UTC))

    def uncounted(self, host: str, path: str) -> Exhausted | None:
        """Why a WebSocket to a model is not opened: what is used over it is not seen, and tokens are limited."""
        spoken = any(reading.lower().endswith("/realtime") for reading in readings(path))
        if self.budget.of_calls and (spoken or provider_of(host) is not None or dialect_of(path) is not None):
            return Exhausted(
                "tokens",
                "what a model is asked over a WebSocket is not counted, and the run's tokens or dollars are limited",
                "ask by POST, or leave network.budget.tokens and dollars out",
            )
        return None

    def spend(self, count: int) -> Exhausted | None:
        """Bytes before they are passed on."""
        found = self.budget.spend_bytes(count) if self.counts_bytes else None
        if self.counts_bytes:
            self._tell()
        return found

    def spend_part(self, count: int) -> tuple[int, Exhausted | None]:
        """Bytes of a stream before they are passed on: how many fit, and why not all do."""
        if not self.counts_bytes:
            return count, None
        found = self.budget.spend_part(count)
        self._tell()
        return found

    def settle(
        self, taken: Reservation | None, call: ModelCall | None, size: int, *, sent: bool, cut: bool
    ) -> None:
        """The request is over; where the answer does not say what it used, that is at least all that was taken.

        Args:
            taken: for it.
            call: that it was.
            size: of its body, in bytes.
            sent: it went out.
            cut: its answer did not come to its end.
        """
        if taken is None:
            return
        if not sent:
            taken.release()
            return
        if call is None or not self.budget.of_calls:
            taken.settle()
            self._tell()
            return
        use = call.used(size, cut=cut)
        if call.answer.background:
            self.budget.close(UNSEEN)
        tokens = (use.answer.input_tokens or 0) + (use.answer.output_tokens or 0)
        price = self._price(call, use.answer) if tokens else 0
        if use.exact:
            taken.settle(tokens=tokens, microdollars=price)
        else:
            taken.settle(
                tokens=max(tokens, taken.amount("tokens")),
                microdollars=max(price or 0, taken.amount("microdollars")),
            )
        self._tell()

    @staticmethod
    def _price(call: ModelCall, answer: Answer) -> int | None:
        name = answer.name or (call.request.name if call.request else None)
        return cost(call.provider, name, answer, datetime.datetime.now(datetime.UTC))

    def _tell(self) -> None:
        if near := self.budget.near():
            self._recorder.write("egress.budget", {"near": list(near), "budget": self.budget.state()})

    def finish(
        self,
        call: ModelCall,
        http_id: str,
        fields: dict[str, Any],
        *,
        refused: bool = False,
        cut: bool = False,
    ) -> None:
        """The answer is over, or never came; `refused`: it was kept in, so it cost nothing and is no turn."""
        if (refused and call.tentative) or not call.is_one(cut=cut):
            return
        section = call.event()
        event_id = self._recorder.next_id()
        if refused:
            self._recorder.write(
                "egress.model",
                {**fields, "model": {**section, "http_id": http_id, "priced": False}},
                event_id=event_id,
            )
            return
        price = self._price(call, call.answer)
        section["http_id"] = http_id
        section["priced"] = price is not None
        if price is not None:
            section["cost_microdollars"] = price
        if call.request is not None:
            previous = self._turns.link(call.request, event_id)
            if previous is not None:
                section["previous"] = previous
        self._turns.answered(section.get("response_id"), event_id)
        self._recorder.write("egress.model", {**fields, "model": section}, event_id=event_id)


class Spending:
    """The bytes of one connection; what is over the budget ends it.

    Args:
        meter: of the session.
        abort: ends the connection, with the reason.
    """

    def __init__(self, meter: Meter, abort: Callable[[str], None]) -> None:
        self._meter = meter
        self._abort = abort

    def overspent(self, story: Story, count: int) -> bool:
        """Whether these bytes are over the budget; then the connection ends."""
        spent = self._meter.spend(count)
        if spent is None:
            return False
        story.verdict = Verdict("block", "budget", spent.reason, allow=spent.allow)
        self._abort(spent.reason)
        return True

    def affordable(self, story: Story, data: bytes) -> bytes:
        """As much of a piece as the budget has room for; when that is not all, the connection ends behind it."""
        fits, spent = self._meter.spend_part(len(data))
        if spent is None:
            return data
        story.verdict = Verdict("block", "budget", spent.reason, allow=spent.allow)
        self._abort(spent.reason)
        return data[:fits]
