from __future__ import annotations

import json
from typing import Any

import pytest

from capsule.overlay.manifest import OverlayError, decode

GOOD: dict[str, Any] = {
    "overlay": 2,
    "run": "r-0abc",
    "when": "2026-01-01T00:00:00Z",
    "command": ["true"],
    "policy": "workspace",
    "roots": [{"path": "/w", "layer": 0}],
    "guards": [{"anchor": "/w", "tail": "**/.env", "why": "deny"}],
}


def test_a_good_one() -> None:
    manifest = decode(json.dumps(GOOD).encode())
    assert manifest.roots[0].path == "/w"
    assert manifest.patterns()[0][0].covers("/w/a/.env")


@pytest.mark.parametrize(
    "bad",
    [
        {"overlay": 1},
        {"run": "../x"},
        {"run": "r-A"},
        {"roots": [{"path": "w", "layer": 0}]},
        {"roots": [{"path": "/w/../x", "layer": 0}]},
        {"roots": [{"path": "/w", "layer": -1}]},
        {"roots": [{"path": "/w", "layer": "../.."}]},
        {"surprise": 1},
    ],
)
def test_bad_ones_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(OverlayError):
        decode(json.dumps(GOOD | bad).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(OverlayError):
        decode(data)
