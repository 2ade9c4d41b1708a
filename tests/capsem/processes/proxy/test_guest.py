from __future__ import annotations

import pytest

from capsem.processes.proxy.guest import reported
from capsem.wire import proxy
from tests.capsem.processes.proxy.standing import Standing, host


def test_a_program_is_what_the_guest_says_or_nothing() -> None:
    assert reported("/usr/bin/curl", 7) == {"program": {"path": "/usr/bin/curl", "pid": 7, "name": "curl"}}
    assert reported("odd", None) == {"program": {"path": "odd", "pid": 0, "name": "odd"}}
    assert reported(None, 7) == reported("", 7) == {}


@pytest.mark.asyncio
async def test_rules_on_commands_leave_the_network_as_it_is() -> None:
    rules = (
        "version: 1\nrules:\n"
        "  - {id: a, on: process, when: 'process.name == \"rm\"', action: block}\n"
        '  - {id: b, on: [file, dns], when: \'event.type == "dns" && dns.name == "b.example"\', action: block}\n'
    )
    async with Standing(host("a.example"), host("b.example"), rules=rules) as stand:
        [ready] = [one for one in stand.said if isinstance(one, proxy.Ready)]
        assert (ready.rules, ready.problems) == (2, ())
        assert (await stand.resolve("a.example"))[0] == 0
        assert (await stand.resolve("b.example"))[0] == 3
