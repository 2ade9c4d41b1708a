"""A place knows its scheme's own port."""

from __future__ import annotations

import pytest

from tests.egress.test_events import place


@pytest.mark.parametrize(
    ("port", "tls", "usual"), [(443, True, True), (80, False, True), (80, True, False), (8443, True, False)]
)
def test_usual_port(port: int, tls: bool, usual: bool) -> None:
    assert place(port, tls=tls).usual_port is usual
