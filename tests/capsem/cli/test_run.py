from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsem.cli.main import main


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--memory", "lots"], "'lots' is no size"),
        (["--memory", "1M"], "out of range"),
        (["--disk", "1"], "out of range"),
        (["-e", "=x"], "no NAME=VALUE"),
        (["--rules", "/no/such/file"], "does not exist"),
        (["--workspace", "/no/such/directory"], "does not exist"),
        (["--workspace", "/"], "/ is more than a workspace"),
        (["--workspace", "/usr", "--share", "live"], "/usr is not shared live"),
        (["--share", "live"], "--share live without a workspace"),
        (["--workspace", "/srv", "--share", "live", "--apply"], "--apply with a live share"),
        (["--apply"], "--apply without a workspace"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    words: list[str], what: str, capsem_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *words, "true"])
    assert ended.value.code == 2
    assert what in capsys.readouterr().err
    assert not (capsem_home / "run").exists(), "no service was started for it"


@pytest.mark.usefixtures("capsem_home")
def test_without_an_image_the_line_that_builds_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--", "true"])
    assert ended.value.code == 1
    assert "capsem image build" in capsys.readouterr().err


@pytest.mark.usefixtures("capsem_home")
def test_what_never_ran_has_a_report_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--json", "--", "true"])
    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (found["machine"], found["seen"], found["exit"]["cause"]) == (None, None, "failed")
    assert "capsem image build" in found["exit"]["next_step"]
