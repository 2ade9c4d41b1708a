"""What the verbs of `capsule rules` are about: files of rules, policies, Sigma files, directories of them, packs.

Refuses what is not a regular file, and a directory without a Sigma file.

    load(("rules.yaml", "./sigma", "agents")).rules       # a RuleSet
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from capsule.cli.files import load_policy, load_source, policy_in_force
from capsule.cli.policy.access import variables_of
from capsule.errors import PolicyError, Problem
from capsule.policy.beside import beside_detections, beside_paths
from capsule.policy.document import Mapping, read_document
from capsule.policy.document import Sequence as NodeSequence
from capsule.policy.model import Origin, Policy, Source
from capsule.rules.deciders import EGRESS, refuse_undecided
from capsule.rules.detection.model import SigmaFile, joined
from capsule.rules.detection.packs import NAMES, load_pack
from capsule.rules.detection.sigma import parse_sigma
from capsule.rules.engine import RuleSet, compile_rules
from capsule.rules.rule import RuleFile, parse_rules

MAX_FILES = 5000
files_argument = click.argument("files", nargs=-1, metavar="[FILE_OR_DIRECTORY_OR_PACK]...")
"""What a verb is about; left out, it is the policy in force."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything named, compiled."""

    rules: RuleSet
    detections: SigmaFile


def load(references: Sequence[str]) -> Sources:
    """Read and compile.

    Args:
        references: files of rules, policies, Sigma files, directories, packs; empty means the policy in force.

    Raises:
        PolicyError: with every place that is wrong in the first file that is.
    """
    found = list(_all(references or [policy_in_force(None, Path.cwd())]))
    files = refuse_undecided((one for one in found if isinstance(one, RuleFile)), EGRESS)
    rules = compile_rules(files)
    return Sources(rules, joined(one for one in found if isinstance(one, SigmaFile)))


def _all(references: Iterable[str]) -> Iterator[RuleFile | SigmaFile]:
    for reference in references:
        if Path(reference).is_dir():
            yield from _directory(Path(reference))
        elif reference in NAMES and not Path(reference).exists():
            yield from _pack(reference)
        else:
            yield from _file(reference)


def _pack(name: str) -> Iterator[SigmaFile]:
    for file, text in load_pack(name) or ():
        yield parse_sigma(text, file)


def _directory(path: Path) -> Iterator[SigmaFile]:
    files = sorted(one for one in path.rglob("*") if one.suffix in {".yml", ".yaml"})
    if not 0 < len(files) <= MAX_FILES:
        what = f"{len(files)} files that end in .yml or .yaml"
        raise PolicyError([Problem(str(path), 1, 1, what, f"from 1 to {MAX_FILES} files of Sigma rules")])
    for one in files:
        source = load_source(str(one))
        yield parse_sigma(source.data.decode("utf-8", "surrogateescape"), source.path)


def _file(reference: str) -> Iterator[RuleFile | SigmaFile]:
    source = load_source(reference)
    text = source.data.decode("utf-8", "surrogateescape")
    first = text.split("\n---", 1)[0] if "\n---" in text else text
    keys = read_document(first.encode("utf-8", "surrogateescape"), source.path)
    named = {key.text: value for key, value in keys.entries}
    if "detection" in named or "correlation" in named:
        yield parse_sigma(text, source.path)
        return
    rules = named.get("rules")
    if isinstance(rules, NodeSequence) and any(
        isinstance(item, Mapping) and _is_rule(item) for item in rules.items
    ):
        yield parse_rules(text, source.path)
        return
    yield from _policy(load_policy(reference))


def _is_rule(item: Mapping) -> bool:
    return bool({"when", "on", "action"} & {key.text for key, _ in item.entries})


def _policy(policy: Policy) -> Iterator[RuleFile | SigmaFile]:
    variables = variables_of(policy)
    for entry in beside_paths(policy, policy.sections.rules.add):
        source = _named(variables.path(entry.path), entry.origin)
        yield parse_rules(source.data.decode("utf-8", "surrogateescape"), source.path)
    for pack in beside_detections(policy, policy.sections.detect.add):
        yield from _directory(Path(variables.path(pack.name))) if pack.is_path else _pack(pack.name)


def _named(path: str, origin: Origin) -> Source:
    """A file that a policy names; the error is about the line that does."""
    try:
        return load_source(path)
    except PolicyError as error:
        beside = (
            "rules, detection and authorities lie beside the file that names them, or are named by ~/… or /…"
        )
        problem = Problem(origin.file, origin.line, origin.column, error.problems[0].what, next_step=beside)
        raise PolicyError([problem]) from None
