from __future__ import annotations

import click

from capsule.cli.reference import PolicyReference


def test_presets_and_files_are_offered() -> None:
    context = click.Context(click.Command("x"))
    items = PolicyReference().shell_complete(context, click.Argument(["policy"]), "work")
    assert [(item.value, item.type) for item in items] == [("workspace", "plain")]
    items = PolicyReference().shell_complete(context, click.Argument(["policy"]), "./work")
    assert [(item.value, item.type) for item in items] == [("./work", "file")]


def test_any_text_is_taken() -> None:
    assert PolicyReference().convert("./x.yaml", None, None) == "./x.yaml"
