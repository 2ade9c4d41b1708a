from __future__ import annotations

import json

import pytest

from capsem.errors import MachineError
from capsem.vm.lifecycle import State
from capsem.vm.record import Record, decode, encode
from capsem.vm.spec import MachineSpec, RuleText

RECORD = Record(
    id="m-00000001",
    spec=MachineSpec(name="build", env={"A": "b"}, rules=(RuleText("r.yaml", "version: 1"),)),
    digest="d" * 64,
    created="2026-01-01T00:00:00Z",
    state=State.STOPPED,
)


def test_a_record_comes_back_as_it_was() -> None:
    assert decode(encode(RECORD), "x") == RECORD
    assert RECORD.names == ("build", "m-00000001")
    assert Record(id="m-2", spec=MachineSpec(), digest="", created="").names == ("m-2",)


@pytest.mark.parametrize(
    "untrusted",
    [
        b"", b"[]", b"\xff", b"[" * 100_000,
        json.dumps({**json.loads(encode(RECORD)), "version": 2}).encode(),
        json.dumps({**json.loads(encode(RECORD)), "more": 1}).encode(),
        json.dumps({**json.loads(encode(RECORD)), "state": "asleep"}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused_by_its_place(untrusted: bytes) -> None:
    with pytest.raises(MachineError, match=r"here/session\.json"):
        decode(untrusted, "here/session.json")
