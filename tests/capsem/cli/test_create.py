from __future__ import annotations

from pathlib import Path

import pytest

from capsem.cli.main import main


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--memory", "lots"], "'lots' is no size"),
        (["--memory", "1M"], "out of range"),
        (["--cpu", "0"], "--cpu: 0 is out of range"),
        (["--disk", "1"], "out of range"),
        (["-e", "=x"], "no NAME=VALUE"),
        (["--rules", "/no/such/file"], "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    words: list[str], what: str, capsem_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["create", *words])
    assert ended.value.code == 2
    assert what in capsys.readouterr().err
    assert not (capsem_home / "run").exists(), "no service was started for it"


@pytest.mark.usefixtures("capsem_home")
def test_without_an_image_the_line_that_builds_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["create"])
    assert ended.value.code == 1
    assert "capsem image build" in capsys.readouterr().err
