from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from capsem.cli.image import build as subject
from capsem.errors import ImageError, NotFoundError
from capsem.host.build import BuildSpec
from capsem.host.images import Image
from capsem.host.progress import Progress
from capsem.vm.image import Package
from tests.capsem.host.made import made_image


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[BuildSpec]:
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path / "home"))
    found: list[BuildSpec] = []

    def build(spec: BuildSpec, progress: Progress) -> Image:
        progress.step("root: compressing")
        progress.at(0.5)
        found.append(spec)
        return made_image(spec.name or spec.recipe.name)

    monkeypatch.setattr(subject, "build", build)
    return found


def test_steps_go_to_standard_error_and_the_digest_to_standard_output(asked: list[BuildSpec]) -> None:
    done = CliRunner().invoke(
        subject.command, ["--recipe", "minimal", "--kernel", "stock"], catch_exceptions=False
    )
    assert done.stderr == "capsem: root: compressing\n"
    assert done.stdout.split()[0] == "minimal"
    assert (asked[0].recipe.name, asked[0].kernel, asked[0].lock, asked[0].fresh) == (
        "minimal",
        "stock",
        None,
        False,
    )


def test_a_lock_is_written_and_read(asked: list[BuildSpec], tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    one = CliRunner().invoke(subject.command, ["--write-lock", str(lock), "--json"], catch_exceptions=False)
    assert json.loads(one.stdout)["names"] == ["default"]
    assert lock.read_text() == "deb bash 5.2\n"
    CliRunner().invoke(subject.command, ["--lock", str(lock), "-n", "b"], catch_exceptions=False)
    assert asked[1].lock == (Package(kind="deb", name="bash", version="5.2"),)
    assert asked[1].name == "b"


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.lock"):
        CliRunner().invoke(subject.command, ["--lock", str(tmp_path / "none.lock")], catch_exceptions=False)
    with pytest.raises(NotFoundError):
        CliRunner().invoke(subject.command, ["--recipe", "none"], catch_exceptions=False)
