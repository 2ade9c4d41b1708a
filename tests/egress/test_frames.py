"""Frames of the supervisor: all of them, and everything that is not one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.frames import EGRESS_LIMIT, Flow, FrameError, FrameReader, Secret, Session, encode

PLAN = {
    "unlisted": "deny",
    "hosts": [{"host": "a.example", "ports": [443], "methods": None, "paths": None, "inspect": "auto",
               "private": False, "origin": {"file": "capsule.yaml", "line": 1}}],
    "budget": dict.fromkeys(("requests", "bytes", "tokens", "microdollars")), "upstreams": [],
    "authorities": [], "proxy": None,
    "secrets": [{"name": "t", "from": {"kind": "env"}, "to": ["a.example"], "as": "header", "field": "X",
                 "user": None, "env": "T", "origin": None}],
    "rules": [], "detect": [],
}  # fmt: skip
SESSION = {
    "type": "session", "version": 1, "run": "r", "command": ["true"], "cwd": "/", "policy": {"name": "p"},
    "egress": PLAN, "sources": [], "secrets": {"t": {"value": "v", "placeholder": "capsule-secret-t-0"}},
    "ports": [443], "interactive": False,
}  # fmt: skip


def framed(message: Any) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data


def test_a_session_is_typed() -> None:
    (frame,) = FrameReader().feed(framed(SESSION))
    assert isinstance(frame, Session)
    assert frame.egress.hosts[0].ports == (443,)
    assert frame.egress.secrets[0].as_ == "header"
    assert "v'" not in repr(frame.secrets["t"])
    assert "hush" not in repr(Secret("t", "hush"))


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"further": 1}, {"ports": ["443"]}, {"egress": {**PLAN, "unlisted": "allow"}}, {"run": None},
     {"type": "sessions"}, {"egress": {**PLAN, "hosts": [{"host": "a"}]}}],
)  # fmt: skip
def test_what_is_not_documented_ends_the_session(change: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        list(FrameReader().feed(framed({**SESSION, **change})))


@pytest.mark.parametrize("missing", sorted(set(SESSION) - {"type"}))
def test_every_field_is_needed(missing: str) -> None:
    with pytest.raises(FrameError, match=missing):
        list(FrameReader().feed(framed({key: value for key, value in SESSION.items() if key != missing})))


@pytest.mark.parametrize(
    "data", [b"\0\0\0\x02[]", b"\0\0\0\x01{", b"\0\0\0\x04null", b"\x7f\xff\xff\xff", b"\0\0\0\x00"]
)
def test_not_a_frame(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(FrameReader().feed(data))


@given(st.lists(st.integers(1, 30), max_size=60))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    flow = {
        "type": "flow",
        "source": "1.2.3.4:5",
        "target": "6.7.8.9:443",
        "pid": 7,
        "program": "/x",
        "argv": ["x"],
    }
    data = framed(flow) * 3
    reader = FrameReader()
    found, at = [], 0
    for cut in [*cuts, len(data)]:
        found += list(reader.feed(data[at : at + cut]))
        at += cut
    assert found == [Flow("1.2.3.4:5", "6.7.8.9:443", 7, "/x", ("x",))] * 3
    assert not reader.midway


def test_egress_keeps_its_own_limit() -> None:
    assert (
        encode({"type": "ready"})
        == framed({"type": "ready"}).replace(b" ", b"")[:3] + b"\x10" + b'{"type":"ready"}'
    )
    with pytest.raises(FrameError):
        encode({"text": "x" * EGRESS_LIMIT})


def test_half_a_character_of_a_peer_does_not_lose_a_record() -> None:
    entry = {
        "type": "egress.model",
        "model": {"name": "\ud800x", "tools": ("\udfff",), "n": 1},
        "k\ud800": None,
    }
    body = encode({"type": "record", "entry": entry})[4:]
    assert json.loads(body)["entry"] == {
        "type": "egress.model", "model": {"name": "?x", "tools": ["?"], "n": 1}, "k?": None,
    }  # fmt: skip
