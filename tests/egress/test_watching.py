"""Sigma rules over what egress sees: a finding on the log, and broken ones deny."""

from __future__ import annotations

from typing import Any

import pytest

from tests.egress.supervisor import host
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream

pytestmark = pytest.mark.needs("userns", "unshare", "curl")
SIGMA = """\
title: A request for the secret page
id: 7b1f7a52-9b3e-4a53-9c39-0d8f0a8f6f10
status: test
level: high
logsource:
  category: proxy
detection:
  selection:
    c-uri|contains: /secret
  condition: selection
"""


def detecting(text: str) -> dict[str, Any]:
    return {"detect": [{"path": "/sigma"}], "sources": [{"path": "/sigma/one.yml", "text": text}]}


def test_a_finding_and_silence(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), **detecting(SIGMA))
    assert inside.run.ready["problems"] == []
    assert inside.curl("http://a.example/other").out == "hello /other"
    assert inside.curl("http://a.example/secret").out == "hello /secret", "findings decide nothing"
    finding = inside.run.record("egress.finding")
    assert finding["rule"]["level"] == "high"
    own = inside.run.record("egress.http", path="/secret")
    assert finding["events"] == [own["event"]["id"]]
    assert len(inside.run.records("egress.finding")) == 1


def test_the_pack_that_comes_along_compiles(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain), detect=[{"pack": "agents"}])
    assert inside.run.ready["problems"] == []
    assert inside.curl("http://a.example/x").out == "hello /x"


@pytest.mark.parametrize("named", [{"pack": "nobodys"}, {"path": "/absent"}, {"path": "/sigma"}])
def test_what_does_not_compile_denies(session: Any, plain: Upstream, named: dict[str, str]) -> None:
    options = {**detecting("title: [broken"), "detect": [named]}
    inside = session(host("a.example", 80), **to(plain), **options)
    assert inside.run.ready["problems"]
    assert inside.curl("http://a.example/x").code == 6
