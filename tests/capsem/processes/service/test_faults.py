"""Errors as answers."""

from __future__ import annotations

import json

from capsem.errors import ConflictError
from capsem.host.operation import raised
from capsem.processes.service.faults import answer
from capsem.wire.monitor import Failed


def test_a_client_reads_back_the_error_that_it_was() -> None:
    said = answer(ConflictError("it runs", next_step="stop it"), 409, close=True)
    assert (said.status_code, said.headers["connection"]) == (409, "close")
    fault = json.loads(bytes(said.body))["error"]
    error = raised(Failed(**{name: value for name, value in fault.items() if name != "type"}))
    assert isinstance(error, ConflictError)
    assert (error.message, error.next_step) == ("it runs", "stop it")
    assert "connection" not in answer(ConflictError("it runs", next_step="stop it"), 409).headers
