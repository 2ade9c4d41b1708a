"""Sigma rules → detections: parsed by pySigma, once, when a policy names them; nothing of it runs on events.

The YAML is read as strictly as a policy's. Understood: string modifiers (`contains startswith endswith
all cased windash base64 base64offset utf16 wide`), `re` with flags, `cidr`, `exists`, `fieldref`, comparisons, null,
wildcards, keywords, `1 of` and `all of`, grouping, and the correlations event_count, value_count, temporal and
temporal_ordered. Refused, each by name: log sources that none of our events are, unknown fields, patterns that RE2
refuses.

    parse_sigma(text, "curl.yml").detections[0].branches["process"]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any as Anything

from capsule.errors import PolicyError, Problem
from capsule.policy.document import Mapping as Node
from capsule.policy.document import Scalar, read_document
from capsule.rules.detection import predicate as p
from capsule.rules.detection.logsource import NEVER, views
from capsule.rules.detection.model import (
    KINDS,
    MAX_COUNT,
    MAX_WINDOW_S,
    About,
    Correlation,
    Detection,
    SigmaFile,
    refused,
)
from capsule.rules.detection.translation import Translation, parsed
from capsule.rules.rule import LEVELS, RuleError, plain

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
Content = dict[str, Anything]


def parse_sigma(text: str, file: str) -> SigmaFile:
    """The rules in `text`: one YAML document each, `---` between them.

    Args:
        text: untrusted.
        file: its name, for errors and findings.

    Raises:
        RuleError: with the place of the document that is wrong.
        DetectionUnavailableError: pySigma is not installed.
    """
    problems: list[Problem] = []
    detections: list[Detection] = []
    waiting: list[tuple[Content, int]] = []
    for start, body in _documents(text):
        try:
            root = read_document(body.encode("utf-8", "surrogatepass"), file)
        except PolicyError as error:
            problems += [replace(problem, line=problem.line + start - 1) for problem in error.problems]
            continue
        content = plain_document(root)
        line = start + _line_of(root, "title") - 1
        if "correlation" in content:
            waiting.append((content, line))
            continue
        try:
            detections.append(_detection(content, file, line))
        except RuleError as error:
            problems += error.problems
    named = {name: one for one in detections for name in (one.about.id, one.name) if name}
    correlations: list[Correlation] = []
    generating: set[str] = set()
    for content, line in waiting:
        try:
            found = _correlation(content, file, line, named)
        except RuleError as error:
            problems += error.problems
            continue
        correlations.append(found)
        if content["correlation"].get("generate") is True:
            generating |= set(found.detections)
    if problems:
        raise RuleError(problems)
    feeding = {name for one in correlations for name in one.detections} - generating
    return SigmaFile(
        tuple(replace(one, alone=one.about.id not in feeding) for one in detections), tuple(correlations)
    )


def plain_document(root: Node) -> dict[str, Anything]:
    """The document as JSON has it."""
    content = plain(root)
    assert isinstance(content, dict)
    return content


def _documents(text: str) -> list[tuple[int, str]]:
    """(line of its first line, text) of each document."""
    found: list[tuple[int, str]] = []
    start = 1
    lines: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if re.fullmatch(r"---\s*(#.*)?", line):
            found.append((start, "\n".join(lines)))
            start, lines = number + 1, []
        else:
            lines.append(line)
    found.append((start, "\n".join(lines)))
    return [(number, body) for number, body in found if body.strip()] or [(1, "")]


def _line_of(root: Node, name: str) -> int:
    return next(
        (key.line for key, _ in root.entries if isinstance(key, Scalar) and key.text == name), root.line
    )


def _about(content: Content, file: str, line: int) -> About:
    # The specification leaves the id out where it likes; findings need one that stays the same.
    name = str(content.get("id") or content.get("name") or _slug(str(content.get("title") or "")))
    if not name:
        raise refused(
            file, line, "the rule has no id and no title", "give it an id (a UUID), a name or a title"
        )
    level = content.get("level", "medium")
    if level not in LEVELS:
        raise refused(file, line, f"level is {level!r}", "one of " + ", ".join(LEVELS))
    title = " ".join(str(content.get("title", name)).split())
    about = " ".join(str(content.get("description") or "").split())
    return About(name, title, str(level), tuple(map(str, _listed(content.get("tags")))), file, line, about)


def _slug(title: str) -> str:
    """A title as an id: `Shell Spawned by Web Server` is `shell-spawned-by-web-server`."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _listed(value: Anything) -> list[Anything]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _detection(content: Content, file: str, line: int) -> Detection:
    about = _about(content, file, line)
    source = content.get("logsource")
    source = source if isinstance(source, dict) else {}
    seen = views(source.get("product"), source.get("category"), source.get("service"))
    if not seen:
        shown = ", ".join(f"{key} {value}" for key, value in source.items()) or "none"
        raise refused(
            file,
            line,
            f"the log source ({shown}) is none of our events",
            "see docs/concepts/rules.md for those that are",
        )
    tree = parsed(content, file, line)
    branches: dict[str, p.Predicate] = {}
    unrecorded: dict[str, None] = {}
    for view in seen:
        translation = Translation(view, file, line)
        try:
            own = translation.predicate(tree)
        except (TypeError, AttributeError, RecursionError) as error:
            # The parser lets a few values through that are none: placeholders, nothing where a pattern belongs.
            raise refused(file, line, f"this is not Sigma: {error}", "see the Sigma specification") from None
        unrecorded.update(dict.fromkeys(translation.never))
        found = p.simplified(own if view.also is None else p.All((view.also, own)))
        if found != p.Always(False):
            branches[view.type] = found
    if not branches and not unrecorded:
        raise refused(file, line, "the condition is always false", "leave the rule out")
    name = str(content.get("name") or "")
    return Detection(about, branches, {view.type: view for view in seen}, tuple(unrecorded), name=name)


def _correlation(content: Content, file: str, line: int, named: Mapping[str, Detection]) -> Correlation:
    about = _about(content, file, line)
    body = content["correlation"]
    if not isinstance(body, dict):
        raise refused(file, line, "correlation is not a mapping", "type, rules, timespan")
    kind = body.get("type")
    if kind not in KINDS:
        raise refused(file, line, f"a correlation of type {kind}", "one of " + ", ".join(KINDS))
    rules = [str(name) for name in _listed(body.get("rules"))]
    unknown = [name for name in rules if name not in named]
    if unknown or not rules:
        raise refused(
            file,
            line,
            f"it correlates {', '.join(unknown) or 'nothing'}, which this file does not have",
            "put the rules it names into the same file",
        )
    if len(set(rules)) != len(rules):
        raise refused(file, line, "it names a rule twice", "name each rule once")
    used = [named[name] for name in rules]
    window = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", str(body.get("timespan", "")))
    seconds = int(window[1]) * _SECONDS[window[2]] if window else 0
    if not 0 < seconds <= MAX_WINDOW_S:
        raise refused(
            file, line, f"timespan is {body.get('timespan')!r}", "such as 30s, 5m or 2h, at most 7d"
        )
    condition = body.get("condition")
    counting = kind in {"event_count", "value_count"}
    at_least = _at_least(condition, file, line) if counting else len(rules)
    aliases = body.get("aliases") or {}
    groups = [str(name) for name in _listed(body.get("group-by"))]
    counted_name = condition.get("field") if isinstance(condition, dict) else None
    if kind == "value_count" and not isinstance(counted_name, str):
        raise refused(file, line, "value_count without a field", "condition: {gte: 5, field: …}")

    def own(name: str, one: Detection, reference: str) -> dict[str, str]:
        meant = aliases.get(name, {}).get(reference, name) if isinstance(aliases.get(name), dict) else name
        found = {kind: view.find(str(meant)) for kind, view in one.views.items() if kind in one.branches}
        wrong = [kind for kind, value in found.items() if not isinstance(value, str) or value == NEVER]
        if wrong:
            raise refused(
                file,
                line,
                f"{wrong[0]} events of {reference} have no field {meant}",
                "name one that they have, or an alias",
            )
        return {kind: str(value) for kind, value in found.items()}

    group: dict[str, dict[str, tuple[str, ...]]] = {}
    counted: dict[str, dict[str, str]] = {}
    for reference, one in zip(rules, used, strict=True):
        rows = [own(name, one, reference) for name in groups]
        group[one.about.id] = {kind: tuple(row[kind] for row in rows) for kind in one.branches}
        if kind == "value_count":
            counted[one.about.id] = own(str(counted_name), one, reference)
    return Correlation(
        about, kind, tuple(one.about.id for one in used), seconds * 1_000_000, at_least, group, counted
    )


def _at_least(condition: Anything, file: str, line: int) -> int:
    bounds = (
        {key: value for key, value in condition.items() if key != "field"}
        if isinstance(condition, dict)
        else {}
    )
    number = next(iter(bounds.values()), None)
    if len(bounds) != 1 or not isinstance(number, int) or next(iter(bounds)) not in {"gte", "gt", "eq"}:
        raise refused(
            file,
            line,
            f"condition is {condition!r}",
            "gte, gt or eq and a whole number: fewer cannot be seen as it happens",
        )
    at_least = number + 1 if "gt" in bounds else number
    if not 1 <= at_least <= MAX_COUNT:
        raise refused(file, line, f"condition counts to {at_least}", f"from 1 to {MAX_COUNT}")
    return at_least
