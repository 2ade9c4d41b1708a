from __future__ import annotations

import sys

import click
import pytest

from capsule.cli.lazy import LazyGroup

GROUP = LazyGroup(
    "g", verbs={"b": ("capsule.cli.completion", "Bee."), "a": ("capsule.cli.policy.schema", "Ay.")}
)


def test_verbs_are_listed_without_importing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "capsule.cli.completion", raising=False)
    context = click.Context(GROUP)
    assert GROUP.list_commands(context) == ["a", "b"]
    formatter = click.HelpFormatter()
    GROUP.format_commands(context, formatter)
    assert "Bee." in formatter.getvalue()
    assert "capsule.cli.completion" not in sys.modules


def test_a_verb_is_imported_when_asked_for() -> None:
    context = click.Context(GROUP)
    found = GROUP.get_command(context, "b")
    assert found is not None
    assert found.name == "completion"
    assert "capsule.cli.completion" in sys.modules
    assert GROUP.get_command(context, "c") is None
