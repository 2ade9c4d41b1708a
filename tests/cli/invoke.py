"""Runs the Python verbs as the native binary does, within this process: exit code, standard output, standard error.

invoke(capsys, "policy", "check", "workspace").code
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from capsule.cli.main import main


@dataclass(frozen=True)
class Answer:
    """What came out."""

    code: int
    out: str
    err: str


def invoke(capsys: pytest.CaptureFixture[str], *arguments: str) -> Answer:
    """One verb."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    captured = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return Answer(caught.value.code, captured.out, captured.err)
