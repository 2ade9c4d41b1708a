from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest

from capsule.cli import native
from capsule.errors import Fault
from tests.cli.invoke import invoke

DECLARED = [value for value in vars(native).values() if isinstance(value, click.Command)]


def test_asked_here_they_say_where_to_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(DECLARED) == 6
    for command in DECLARED:
        answer = invoke(capsys, str(command.name))
        assert (answer.code, answer.out) == (2, "")
        assert f"'{command.name}' is a verb of the native binary" in answer.err
        assert f"call: capsule {command.name}" in answer.err
    assert native.NativeVerbError.fault is Fault.CALLER


@pytest.mark.parametrize("command", DECLARED, ids=lambda command: str(command.name))
def test_the_binary_documents_every_option_that_is_completed(
    command: click.Command, capsule_binary: Path
) -> None:
    done = subprocess.run(
        [capsule_binary, str(command.name), "--help"], capture_output=True, text=True, check=True
    )
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert option in done.stdout, option
