"""What Sigma's log sources and fields are here."""

from __future__ import annotations

import pytest

from capsule.rules import event as table
from capsule.rules.detection.logsource import DERIVED, NEVER, kind_of, known_categories, views


def test_every_field_that_is_named_exists() -> None:
    for category in known_categories():
        for view in views("linux", category):
            for ours in [*view.names.values(), *view.words]:
                if isinstance(ours, bool) or ours == NEVER or ours.startswith("http.headers."):
                    continue
                assert table.field(ours) is not None or ours in DERIVED, ours


def test_every_event_type_of_ours_is_a_category() -> None:
    for kind in set(table.TYPES.values()):
        assert [view.type for view in views("capsule", kind)] == [kind]


@pytest.mark.parametrize(
    ("source", "types"),
    [
        (("linux", "process_creation", None), ["process"]),
        (("linux", "network_connection", None), ["tcp", "http"]),
        ((None, "dns", None), ["dns"]),
        (("windows", "process_creation", None), []),
        (("linux", None, "auditd"), []),
        (("linux", "process_creation", "x"), []),
        (("capsule", "nope", None), []),
    ],
)
def test_log_sources(source: tuple[str | None, str | None, str | None], types: list[str]) -> None:
    assert [view.type for view in views(*source)] == types


@pytest.mark.parametrize(
    ("category", "name", "found"),
    [
        ("process_creation", "Image", "process.path"),
        ("process_creation", "ParentCommandLine", "program.command"),
        ("process_creation", "User", NEVER),
        ("process_creation", "Nope", None),
        ("process_creation", "process.argv", "process.argv"),
        ("process_creation", "http.host", NEVER),
        ("process_creation", "run", "run"),
        ("network_connection", "Initiated", True),
        ("proxy", "http.headers.x-a.b", "http.headers.x-a.b"),
        ("proxy", "http.body.json.a.b", "http.body.json.a.b"),
        ("proxy", "http.nope", None),
        ("proxy", "decision.rule.id", "decision.rule.id"),
    ],
)
def test_fields(category: str, name: str, found: object) -> None:
    assert views("linux", category)[0].find(name) == found


def test_the_kind_of_a_field_below_a_mapping() -> None:
    assert kind_of("http.headers.x-a") == "string"
    assert kind_of("http.body.json.a.b") == "json"
    assert kind_of("program.command") == "string"
    assert kind_of("http.status") == "int"
