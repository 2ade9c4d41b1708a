"""Dockerfile and compose file, as far as a machine without an engine can judge: structure and references."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.architecture.sources import ROOT, relative, tracked


@dataclass(frozen=True)
class Instruction:
    """One instruction, its line continuations joined."""

    word: str
    text: str
    stage: int


def parse(source: str) -> list[Instruction]:
    """The instructions of a Dockerfile, in order; the stage counts FROMs, from 0."""
    lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: list[Instruction] = []
    for statement in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = statement.partition(" ")
        stage = sum(1 for item in found if item.word == "FROM") - (0 if word == "FROM" else 1)
        found.append(Instruction(word, rest.strip(), stage))
    return found


IMAGE = parse((ROOT / "Dockerfile").read_text(encoding="utf-8"))
LAST = max(instruction.stage for instruction in IMAGE)


def of(word: str, stage: int | None = None) -> list[Instruction]:
    return [item for item in IMAGE if item.word == word and stage in (None, item.stage)]


def compose() -> Any:
    return YAML(typ="safe").load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def test_only_known_instructions() -> None:
    known = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert {item.word for item in IMAGE} <= known, (
        "ADD, ARG, VOLUME, EXPOSE and HEALTHCHECK have no place here"
    )


def test_bases_are_named_and_not_moving() -> None:
    bases = [item.text.split(" ")[0] for item in of("FROM")]
    assert len(bases) == 2, "one stage builds, one runs"
    for base in bases:
        assert re.fullmatch(r"debian:[a-z]+-slim", base), (
            f"{base}: a slim Debian release by name, not `latest`"
        )


def test_the_command_runs_as_an_ordinary_user_in_the_workspace() -> None:
    words = [item.word for item in IMAGE if item.stage == LAST]
    assert [item.text for item in of("USER")] == ["capsule"]
    assert re.search(r"useradd [^&]*--uid 1000 capsule", " ".join(item.text for item in of("RUN", LAST)))
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert [item.text for item in of("WORKDIR", LAST)] == ["/workspace"]
    assert [json.loads(item.text) for item in of("ENTRYPOINT")] == [["capsule"]], (
        "the exec form: no shell in between"
    )
    assert not [
        item for item in of("RUN", LAST) if re.search(r"\b(gcc|cargo|rustc|sudo|setuid)\b", item.text)
    ]


def test_package_lists_are_not_kept() -> None:
    for item in of("RUN"):
        if "apt-get install" in item.text:
            assert "--no-install-recommends" in item.text
            assert item.text.index("apt-get update") < item.text.index("apt-get install")
            assert "rm -rf /var/lib/apt/lists/*" in item.text


def test_nothing_unpinned_is_installed() -> None:
    for item in of("RUN"):
        assert not re.search(r"\b(curl|wget)\b|chmod 777|--privileged|\bsudo\b", item.text)
        for install in re.findall(r"(?:pip install|pip sync)[^&]*", item.text):
            assert "--require-hashes" in install or ("--no-deps" in install and "/wheel/*.whl" in install), (
                install
            )


def test_what_is_copied_is_in_the_repository_and_in_the_build_context() -> None:
    names = {relative(path) for path in tracked()}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for item in of("COPY"):
        words = item.text.split()
        if words[0].startswith("--from="):
            assert words[0] == "--from=build"
            continue
        for source in words[:-1]:
            assert any(name == source or name.startswith(source + "/") for name in names), source
            assert source in kept, f".dockerignore leaves {source} out"


def test_variables_are_paths_only() -> None:
    """No secret and no address can hide in an environment variable of the image."""
    assert [item.text.split("=")[0] for item in of("ENV")] == ["PATH"]


def test_compose_gives_no_power_beyond_what_the_page_explains() -> None:
    service = compose()["services"]["capsule"]
    assert set(service) == {
        "build", "image", "volumes", "working_dir", "network_mode", "cap_drop", "security_opt", "pids_limit",
    }  # fmt: skip
    assert service["cap_drop"] == ["ALL"]
    assert service["network_mode"] == "none"
    assert service["volumes"] == [".:/workspace"]
    assert "no-new-privileges=true" in service["security_opt"]
    page = (ROOT / "docs/docker.md").read_text(encoding="utf-8")
    for option in service["security_opt"]:
        if option != "no-new-privileges=true":
            assert f"--security-opt {option}" in page


@pytest.mark.parametrize("quick_start", ['docker run --rm -v "$(pwd)":/workspace capsule run ls -l'])
def test_the_quick_start_is_written_down(quick_start: str) -> None:
    assert quick_start in (ROOT / "docs/docker.md").read_text(encoding="utf-8")


def test_the_parser_sees_a_bad_file() -> None:
    """The positive control for the parser: continuations, comments and stages."""
    found = parse("FROM a:1 AS x\n# no\nRUN a \\\n    && b\nFROM b:2\nADD http://x /y\n")
    assert [(item.word, item.stage) for item in found] == [("FROM", 0), ("RUN", 0), ("FROM", 1), ("ADD", 1)]
    assert found[1].text == "a && b"
