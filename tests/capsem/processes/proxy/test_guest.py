from __future__ import annotations

from capsem.processes.proxy.guest import reported


def test_a_program_is_what_the_guest_says_or_nothing() -> None:
    assert reported("/usr/bin/curl", 7) == {"program": {"path": "/usr/bin/curl", "pid": 7, "name": "curl"}}
    assert reported("odd", None) == {"program": {"path": "odd", "pid": 0, "name": "odd"}}
    assert reported(None, 7) == reported("", 7) == {}
