"""The licence is in the repository and in what is shipped, and every distribution names it."""

from __future__ import annotations

import re
import tomllib

from tests.architecture.sources import ROOT


def test_the_full_text_is_there_and_shipped() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert (ROOT / "capsule/LICENSE").read_text(encoding="utf-8") == text, "the wheel is built from capsule/"


def test_every_distribution_names_it() -> None:
    for name in ("capsule/pyproject.toml", "capsem/pyproject.toml"):
        assert tomllib.loads((ROOT / name).read_text())["project"]["license"] == "Apache-2.0"
    cargo = (ROOT / "capsule/native/Cargo.toml").read_text()
    assert re.search(r'^license = "Apache-2.0"$', cargo, re.MULTILINE)


def test_both_sides_have_one_version() -> None:
    python = tomllib.loads((ROOT / "capsule/pyproject.toml").read_text())["project"]["version"]
    native = tomllib.loads((ROOT / "capsule/native/Cargo.toml").read_text())["package"]["version"]
    assert python == native


def test_capsem_is_no_member_of_the_workspace() -> None:
    """A workspace has one Python floor, and capsule's is lower than capsem's."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
    assert workspace == ["capsule"]
    assert (
        tomllib.loads((ROOT / "capsem/pyproject.toml").read_text())["project"]["requires-python"] == ">=3.12"
    )
