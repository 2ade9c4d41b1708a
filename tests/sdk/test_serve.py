"""A hostile body at its own connection: nothing it sends is more than a wrong answer to its own call."""

from __future__ import annotations

import pickle
import threading
from types import ModuleType

import pytest

import capsule
from capsule.sdk.values import encode
from capsule.sdk.wire import pack


def answer(body: bytes, **more: object) -> bytes:
    return pack({"kind": "answer", "outcome": "returned", **more}, body)


def test_the_attack_has_a_connection_to_write_to(tools: ModuleType) -> None:
    assert tools.connection() > 2
    assert tools.say(answer(encode("forged")), "exit") == "forged"


@pytest.mark.parametrize(
    "words",
    [
        b"garbage that is not a frame at all",
        b"\xff\xff\xff\xff" + b"x" * 5000,
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x03[]\n",
        pack({}),
        pack({"kind": "answer"}),
        pack({"kind": "ready", "pid": 1}),
        pack({"kind": "answer", "outcome": "timeout"}),
        answer(b"1", more=1),
        b'\x00\x00\x00\x3e{"kind":"answer","outcome":"returned","outcome":"returned"}   \n1',
        answer(encode(1)) + answer(encode(2)),
        answer(b"1")[:-1],
        pack({"kind": "gone", "slot": 1, "status": 0, "clean": True, "errno": None}),
    ],
    ids=lambda words: repr(words[:60]),
)
@pytest.mark.parametrize("end", ["exit", "hang"])
def test_what_is_not_one_answer_is_an_error_of_this_call_alone(
    tools: ModuleType, words: bytes, end: str
) -> None:
    with pytest.raises((capsule.WorkerError, capsule.ResultError, capsule.CallTimeoutError)):
        tools.say(words, end)
    assert tools.add(1) == 3


@pytest.mark.parametrize(
    "body", [pickle.dumps(print), b"{", b"NaN", b"[" * 5000, b"\xff"], ids=lambda body: repr(body[:40])
)
def test_a_body_that_is_not_a_value_is_an_error(tools: ModuleType, body: bytes) -> None:
    with pytest.raises(capsule.WorkerError, match="something that is not a result"):
        tools.say(answer(body), "exit")


def test_an_answer_beyond_the_limit_is_not_read(tools: ModuleType) -> None:
    with pytest.raises(capsule.ResultError, match="larger than"):
        tools.say(answer(b"1" * (2 << 20)), "hang")
    assert tools.add(1) == 3


def test_a_forged_exception_is_only_ever_a_listed_one(tools: ModuleType) -> None:
    forged = pack(
        {"kind": "answer", "outcome": "raised", "error": "KeyboardInterrupt"},
        encode({"type": "KeyboardInterrupt", "module": "builtins", "message": "", "arguments": [],
                "notes": [], "traceback": ""}),
    )  # fmt: skip
    with pytest.raises(capsule.ToolError):
        tools.say(forged, "exit")


def test_a_second_answer_never_reaches_another_call(tools: ModuleType) -> None:
    results: list[object] = []

    def honest() -> None:
        results.extend(tools.add(n) for n in range(50))

    thread = threading.Thread(target=honest)
    thread.start()
    for _ in range(10):
        with pytest.raises(capsule.CapsuleError):
            tools.say(answer(encode(1)) + answer(encode(666)), "hang")
    thread.join()
    assert results == [n + 2 for n in range(50)]


@pytest.mark.parametrize("number", [9, 11, 6])
def test_a_call_that_dies_says_of_what(tools: ModuleType, number: int) -> None:
    with pytest.raises(capsule.WorkerError, match=f"killed by signal {number}"):
        tools.die(number)
    assert tools.add(1) == 3
