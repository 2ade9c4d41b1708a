"""Entries: in order, without a secret, never too long for a frame."""

from __future__ import annotations

from typing import Any

import pytest

from capsule.egress.frames import encode
from capsule.egress.recording import Recorder


async def no_wait() -> None:
    """There is always room."""


def recorder() -> tuple[Recorder, list[Any]]:
    sent: list[Any] = []

    def send(message: object) -> None:
        encode(message)
        sent.append(message)

    return Recorder(send, wait=no_wait), sent


def test_an_event_has_an_identity_and_a_time() -> None:
    found, sent = recorder()
    first = found.write("egress.http", {"http": {"method": "GET"}})
    second = found.write("egress.dns", {"dns": {}})
    found.write("egress.session", {"why": "x"})
    entries = [message["entry"] for message in sent]
    assert [entry["type"] for entry in entries] == ["egress.http", "egress.dns", "egress.session"]
    assert entries[0]["event"]["id"] == first != second == entries[1]["event"]["id"]
    assert entries[0]["event"]["type"] == "http"
    assert "event" not in entries[2]


def test_a_secret_is_shown_as_its_placeholder() -> None:
    found, sent = recorder()
    found.mask = lambda data: data.replace(b"hunter2!", b"capsule-secret-x-0")
    found.write("egress.http", {"http": {"headers": {"x": "Bearer hunter2!"}, "list": ["hunter2!", 1]}})
    assert "hunter2!" not in repr(sent)
    assert sent[0]["entry"]["http"]["headers"]["x"] == "Bearer capsule-secret-x-0"


@pytest.mark.parametrize(
    "http",
    [
        {"path": "x" * 1_000_000},
        {"headers": {f"h{n}": "\x01" * 5000 for n in range(500)}},
        {"list": [["x" * 999] * 999] * 9},
    ],
)
def test_a_long_entry_is_shortened_not_dropped(http: dict[str, Any]) -> None:
    found, sent = recorder()
    found.write("egress.http", {"http": http, "decision": {"action": "block", "by": "rule"}})
    assert sent[0]["entry"]["decision"] == {"action": "block", "by": "rule"}


def test_observers_see_what_was_written() -> None:
    found, _ = recorder()
    seen: list[dict[str, Any]] = []
    found.observers.append(seen.append)
    found.write("egress.tcp", {"tcp": {"port": 1}})
    assert seen[0]["tcp"] == {"port": 1}
