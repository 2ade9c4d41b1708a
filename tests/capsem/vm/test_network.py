from __future__ import annotations

import json

import msgspec

from capsem.vm.network import NOTHING, NetworkSpec, TextFile, session
from capsule.egress.frames import Egress, Session

PLAN = {**NOTHING, "rules": [{"path": "/p/rules.yaml", "origin": None}]}
SPEC = NetworkSpec("./p.yaml", "blake3:0", json.dumps(PLAN), (TextFile("/p/rules.yaml", "rules: []"),))


def test_nothing_is_a_plan_that_reaches_nothing() -> None:
    plan = msgspec.convert(NOTHING, Egress)
    assert (plan.hosts, plan.unlisted) == ((), "deny")
    assert not SPEC.reaches
    assert NetworkSpec("p", "d", json.dumps({**PLAN, "unlisted": "ask"})).reaches


def test_a_session_has_the_policys_rules_and_the_machines() -> None:
    made = session("m-1", SPEC, [TextFile("/m.yaml", "more")], {})
    frame = msgspec.convert(made, Session)
    assert (frame.run, frame.ports, frame.policy) == ("r-m-1", (), {"name": "./p.yaml", "digest": "blake3:0"})
    assert [rule["path"] for rule in frame.egress.rules] == ["/p/rules.yaml", "/m.yaml"]
    assert [source.path for source in frame.sources] == ["/p/rules.yaml", "/m.yaml"]
    alone = msgspec.convert(session("m-1", None, [], {}), Session)
    assert (alone.policy, alone.egress.rules) == (None, ())
    assert NOTHING["rules"] == []
