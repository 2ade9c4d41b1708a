"""What is written about the commands is what the commands say: reference pages, README, tutorial."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from capsule.cli.main import root
from capsule.policy.merge import LoadError, resolve
from capsule.policy.model import Source
from capsule.sandbox.compiler import compile_policy
from scripts import reference
from tests.architecture.sources import ROOT, relative

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
]


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_reference_page_is_what_would_be_generated(name: str) -> None:
    present = (ROOT / "docs/reference" / name).read_text(encoding="utf-8")
    assert present == reference.pages()[name](), "run `make docs`"


@pytest.mark.needs("capsem")
def test_every_reference_page_is_made_and_listed() -> None:
    there = {path.name for path in (ROOT / "docs/reference").glob("*.md")}
    assert there == set(reference.pages())
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert {name for name in there if f"(reference/{name})" not in index} == set()


def test_the_help_lists_verbs() -> None:
    verbs = set(reference.verbs_in(reference.help_of(())))
    assert {
        "run",
        "verify",
        "log",
        "prove",
        "policy",
        "profile",
        "doctor",
        "attack",
        "diff",
        "apply",
    } <= verbs


def test_verbs_are_found_under_their_heading_only() -> None:
    text = "Usage: x\n\nOptions:\n  --a\n  note  c\n\nCommands:\n  run   Do.\n        more\n  a-b  Do.\n\nEnd\n  no\n"
    assert reference.verbs_in(text) == ["run", "a-b"]
    assert reference.verbs_in("x: y\n\n  capsule run [a] -- B   c\n  capsule a | b   c\n  capsule --version") == [
        "run", "a", "b",
    ]  # fmt: skip


def commands_in(path: Path, programs: str = "make|capsule") -> list[str]:
    """The lines of code blocks that call us: `make X`, `capsule X`, with or without a prompt."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"^\$ ", "", line.strip()) for block in blocks for line in block.splitlines()]
    return [
        line
        for line in lines
        if re.match(rf"(\.venv/bin/)?({programs}) [a-z-]+", line)
        and " : " not in line
        and not line.startswith("capsule blocked ")
    ]


WRITTEN = [
    pytest.param(line, id=f"{relative(path)}: {line[:50]}")
    for path in PAGES
    if "reference" not in path.parts and "decisions" not in path.parts
    for line in commands_in(path)
]


MACHINES = [
    pytest.param(line, id=f"{relative(path)}: {line[:50]}")
    for path in PAGES
    if "reference" not in path.parts and "decisions" not in path.parts
    for line in commands_in(path, "capsem")
]


@pytest.mark.needs("capsem")
@pytest.mark.parametrize("line", MACHINES)
def test_a_command_of_machines_that_is_written_down_exists(line: str) -> None:
    from scripts import reference_machines

    own = re.split(r" -- |#|\||;|&", line.removeprefix(".venv/bin/"), maxsplit=1)[0]
    words = own.split()[1:]
    if words[0].startswith("-"):
        return
    known = set(reference_machines.verbs())
    verb = tuple(words[:2]) if tuple(words[:2]) in known else (words[0],)
    assert verb in known, f"no verb {' '.join(verb)}"
    text = reference_machines.help_of(verb)
    options = re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", own)
    missing = [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)]
    assert not missing, f"{missing} are not options of `capsem {' '.join(verb)}`"


@pytest.mark.needs("capsem")
def test_pages_show_every_verb_of_machines() -> None:
    from scripts import reference_machines

    shown = [line.values[0] for line in MACHINES]
    absent = [
        verb
        for verb in map(" ".join, reference_machines.verbs())
        if not any(re.search(rf"capsem {verb}\b", str(line)) for line in shown)
    ]
    assert absent == []


@pytest.mark.parametrize("line", WRITTEN)
def test_a_command_that_is_written_down_exists(line: str) -> None:
    words = line.removeprefix(".venv/bin/").split()
    if words[0] == "make":
        assert re.search(rf"^{re.escape(words[1])}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    known = reference.verbs_in(reference.help_of(()))
    if words[1] in {"--version", "--help"}:
        return
    assert words[1] in known, f"no verb {words[1]}"
    text = reference.help_of((words[1],))
    inner = reference.verbs_in(text)
    if inner and len(words) > 2 and re.fullmatch(r"[a-z-]+", words[2]) and not words[2].startswith("-"):
        assert words[2] in inner, f"no verb {words[1]} {words[2]}"
        text = reference.help_of((words[1], words[2]))
    own = re.split(r" -- |#|\|", line, maxsplit=1)[0]
    options = re.findall(r"(?<=\s)--[a-z-]+", own)
    missing = [option for option in options if option not in text]
    assert not missing, f"{missing} are not options of `capsule {words[1]}`"


class _Nothing:
    """Policies on pages stand alone or extend presets."""

    def load(self, reference: str, including: str) -> Source:
        raise LoadError(f"{reference}, named in {including}, is not on the page", "")


POLICIES = [
    pytest.param(block, id=f"{relative(path)}: {block.strip()[:40]}")
    for path in PAGES
    for block in re.findall(
        r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    if re.search(r"^version: 1$", block, re.MULTILINE)
    and "\nrules:\n  - id:" not in block
    and "\nservers:\n" not in block
]


@pytest.mark.parametrize("text", POLICIES)
def test_a_policy_that_is_written_down_can_be_used(text: str) -> None:
    assert compile_policy(resolve(Source("/page/capsule.yaml", text.encode()), _Nothing())).plan == 1


LINKS = [
    pytest.param(path, target, id=f"{relative(path)}: {target}")
    for path in [*PAGES, ROOT / "ARCHITECTURE.md"]
    for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("path", "target"), LINKS)
def test_a_link_leads_somewhere(path: Path, target: str) -> None:
    assert (path.parent / target).exists()


NAMED = [
    pytest.param(path, name, id=f"{relative(path)}: {name}")
    for path in [*PAGES, ROOT / "ARCHITECTURE.md"]
    for name in sorted(
        set(
            re.findall(
                r"`((?:docs|scripts|tests|capsule|capsem|changes|benchmarks)/[\w./-]+)`", path.read_text()
            )
        )
    )
]


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_path_that_is_written_down_exists(path: Path, name: str) -> None:
    assert (ROOT / name).exists(), f"{relative(path)} speaks of {name}"


PAGE = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^(##+) capsule ([^\n]+)\n\n```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def verbs_of(command: click.Command, *words: str) -> list[tuple[str, ...]]:
    """The verbs below a command of the Python side, as words."""
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    found: list[tuple[str, ...]] = []
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        found += [(*words, name), *verbs_of(inner, *words, name)]
    return found


def test_every_verb_has_one_page() -> None:
    names = [tuple(name.split()) for _, name, _ in SECTIONS]
    assert len(names) == len(set(names)) == len(re.findall("^##", PAGE, re.MULTILINE))
    assert {words[0] for words in names} == set(reference.verbs_in(reference.help_of(())))
    assert set(names) == set(verbs_of(root))


@pytest.mark.parametrize(("name", "text"), [pytest.param(name, text, id=name) for _, name, text in SECTIONS])
def test_a_page_has_an_example_and_every_option(name: str, text: str) -> None:
    example = re.search(r"^ *example: (.*\bcapsule .*)", text, re.MULTILINE | re.IGNORECASE | re.DOTALL)
    assert example
    assert f"capsule {name}" in " ".join(example[1].split())
    before = text[: example.start()]
    assert set(re.findall(r"(?<=\s)--[a-z-]+", example[1])) <= set(re.findall(r"--[a-z-]+", before))
    context = click.Context(root)
    command: click.Command | None = root
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.get_command(context, word)
    assert command is not None
    options = [option for each in command.params if isinstance(each, click.Option) for option in each.opts]
    assert [option for option in options if not re.search(rf"(^ +|\[){option}\b", before, re.MULTILINE)] == []


def test_ways_to_call_a_verb_are_no_verbs() -> None:
    assert reference.verbs_in("usage: capsule log [LOG]\n       capsule log --key\n\nText.") == []
