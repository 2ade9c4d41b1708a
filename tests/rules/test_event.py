"""The table of event types: what it knows, what it finds wrong, the page made from it."""

from __future__ import annotations

import pytest

from capsule.rules import event as table


def test_every_event_type_has_its_section_and_rules_see_no_decision() -> None:
    for name, section in table.TYPES.items():
        seen = table.visible(name)
        assert any(path.startswith(section + ".") for path in seen)
        assert not any(path.startswith("decision.") for path in seen)
        assert "decision.action" in table.visible(name, decided=True)


def test_what_is_not_known_yet_is_not_visible() -> None:
    assert "http.status" not in table.visible("http")
    assert "http.status" in table.visible("http_response")
    assert "http.duration_us" not in table.visible("http_response")
    assert "http.duration_us" in table.visible("http", decided=True)
    assert "http.body.text" in table.visible("http")


def test_objects_hold_the_fields_below_them() -> None:
    for path, row in table.fields():
        parent = path.rpartition(".")[0]
        if parent and parent not in table.SECTIONS:
            above = table.field(parent)
            assert above is not None
            assert above.kind == "object"
            assert row.at in {above.at, "end"}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"http": {"host": "x", "body": {"json": [1]}}, "run": "r"}, []),
        ({"dns": {"entropy": 3}}, []),
        ({"http": {"hots": "x"}}, ["http.hots: no such field; did you mean 'host'?"]),
        ({"htp": {}}, ["htp: no such section"]),
        ({"http": "x"}, ["http: not an object"]),
        ({"run": 3}, ["run: not a string"]),
        ({"http": {"port": "443"}}, ["http.port: not of kind int"]),
        ({"http": {"port": True}}, ["http.port: not of kind int"]),
        ({"http": {"websocket": 1}}, ["http.websocket: not of kind bool"]),
        ({"http": {"headers": {"a": 1}}}, ["http.headers: not a mapping of strings"]),
        ({"http": {"secret": [1]}}, ["http.secret: not a list of strings"]),
        ({"http": {"body": {"size": "x"}}}, ["http.body.size: not of kind int"]),
        ({"model": {"tool_calls": ["x"]}}, ["model.tool_calls: not a list of objects"]),
        ({"http": {"host": None}}, ["http.host: not of kind string"]),
    ],
)
def test_problems(event: dict[str, object], said: list[str]) -> None:
    assert table.problems_of(event) == said


def test_the_page_names_every_field() -> None:
    page = table.reference()
    for path, row in table.fields():
        assert (
            f"| `{path}` | {table.cel_type(path)} | {row.at if row.sure else f'{row.at}, if any'} |" in page
        )
