"""From one document and what it extends to one `Policy`.

Later wins: of scalar settings the last one stands; lists append; `{replace: […]}` and `{remove: […]}` take
away what was inherited. The order is: first what `extends` names, from left to right, each with its own
`extends` before it, then the document itself. A file or preset reached twice counts once, at its first place.
What it refuses: cycles, more than 8 levels or 32 documents, removing what was not inherited.

    resolve(Source("/w/capsule.yaml", data), loader)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, TypeVar

from capsule.errors import PolicyError, Problem, nearest_name
from capsule.policy.model import (
    Document,
    Edit,
    Environment,
    Keyed,
    NameEntry,
    Origin,
    Policy,
    Sections,
    Setting,
    Source,
)
from capsule.policy.parser import is_preset_name, parse
from capsule.policy.paths import shown
from capsule.policy.presets import NAMES, load_preset

MAX_LEVELS = 8
MAX_DOCUMENTS = 32

E = TypeVar("E", bound=Keyed)
V = TypeVar("V")


class Loader(Protocol):
    """Where files named in `extends` come from."""

    def load(self, reference: str, including: str) -> Source:
        """The file `reference`, relative to the directory of the file `including`.

        Raises:
            LoadError: when it cannot be read.
        """
        ...


class LoadError(Exception):
    """A file cannot be read: `what` happened and the `next_step`."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step


def resolve(top: Source, loader: Loader) -> Policy:
    """The policy of `top` and everything it extends.

    Raises:
        PolicyError: when a document is wrong, missing, or the documents do not fit together.
    """
    order = _Order(loader)
    order.visit(top, (), None)
    documents = order.documents
    merged = Sections()
    tools: dict[str, Setting[Sections]] = {}
    for document in documents:
        merged = merge_sections(merged, document.sections)
        for name, tool in document.tools.items():
            earlier = tools.get(name)
            tools[name] = (
                tool if earlier is None else Setting(merge_sections(earlier.value, tool.value), tool.origin)
            )
    last = documents[-1]
    # Every tool's removals have to fit the policy beneath them, also for tools that nobody asks about now.
    for tool in tools.values():
        _settled(merge_sections(merged, tool.value))
    return Policy(
        name=last.name.value if last.name is not None else _default_name(top.path),
        origin=last.name.origin if last.name is not None else Origin(top.path, 1, 1),
        sections=_settled(merged),
        tools=tools,
        examples=last.examples,
        sources=tuple(reversed(order.sources)),
    )


def with_tool(policy: Policy, tool: str) -> Policy:
    """The policy as it holds for one tool.

    Raises:
        PolicyError: when the policy has no such tool.
    """
    found = policy.tools.get(tool)
    if found is None:
        raise PolicyError(
            [
                Problem(
                    policy.origin.file,
                    policy.origin.line,
                    policy.origin.column,
                    f"the policy has no tool {tool[:80]!r}",
                    "one of " + ", ".join(policy.tools)
                    if policy.tools
                    else "a policy with a 'tools' section",
                    nearest_name(tool, policy.tools),
                    "name the tool under 'tools', or leave --tool out",
                )
            ]
        )
    return dataclasses.replace(policy, sections=_settled(merge_sections(policy.sections, found.value)))


def _default_name(path: str) -> str:
    return path.removeprefix("preset:").rsplit("/", 1)[-1].rsplit(".", 1)[0][:64] or "policy"


class _Order:
    """The documents, each after what it extends."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.documents: list[Document] = []
        self.sources: list[Source] = []
        self._seen: set[str] = set()

    def visit(self, source: Source, above: tuple[str, ...], entry: NameEntry | None) -> None:
        if source.path in above:
            chain = " → ".join([*above[above.index(source.path) :], source.path])
            self._refuse(entry, f"extends goes in a circle: {chain}", "remove one of these entries")
        if source.path in self._seen:
            return
        if len(above) >= MAX_LEVELS:
            self._refuse(
                entry, f"extends is more than {MAX_LEVELS} levels deep", "extend fewer files in a row"
            )
        self._seen.add(source.path)
        if len(self._seen) > MAX_DOCUMENTS:
            self._refuse(entry, f"more than {MAX_DOCUMENTS} files are extended", "put some of them together")
        document = parse(source.data, source.path)
        for extended in document.extends:
            self.visit(self._load(extended, source.path), (*above, source.path), extended)
        self.documents.append(document)
        self.sources.append(source)

    def _load(self, entry: NameEntry, including: str) -> Source:
        if is_preset_name(entry.name):
            preset = load_preset(entry.name)
            if preset is None:
                raise PolicyError(
                    [
                        Problem(
                            entry.origin.file,
                            entry.origin.line,
                            entry.origin.column,
                            f"there is no preset {entry.name!r}",
                            "one of " + ", ".join(NAMES),
                            nearest_name(entry.name, NAMES),
                            f"write ./{entry.name}.yaml if you mean a file",
                        )
                    ]
                )
            return preset
        if including.startswith("preset:"):
            self._refuse(entry, f"a preset extends the file {entry.name!r}", "presets extend presets only")
        try:
            return self.loader.load(entry.name, including)
        except LoadError as fault:
            self._refuse(entry, fault.what, fault.next_step)

    def _refuse(self, entry: NameEntry | None, what: str, next_step: str) -> NoReturn:
        origin = entry.origin if entry is not None else Origin("policy", 1, 1)
        raise PolicyError([Problem(origin.file, origin.line, origin.column, what, next_step=next_step)])


def merge_sections(earlier: Sections, later: Sections) -> Sections:
    """Both, the later one winning. Associative, with `Sections()` on either side changing nothing."""
    return Sections(
        filesystem=_merge_record(earlier.filesystem, later.filesystem),
        network=_merge_record(earlier.network, later.network),
        syscalls=_merge_record(earlier.syscalls, later.syscalls),
        process=_merge_record(earlier.process, later.process),
        environment=_merge_record(earlier.environment, later.environment),
        limits={**earlier.limits, **later.limits},
        require=_merge_edit(earlier.require, later.require),
        audit=later.audit or earlier.audit,
        secrets=_merge_edit(earlier.secrets, later.secrets),
        rules=_merge_edit(earlier.rules, later.rules),
        detect=_merge_edit(earlier.detect, later.detect),
    )


def _merge_record(earlier: V, later: V) -> V:
    merged: dict[str, Any] = {}
    for item in dataclasses.fields(earlier):  # type: ignore[arg-type]
        one, two = getattr(earlier, item.name), getattr(later, item.name)
        if isinstance(one, Edit):
            merged[item.name] = _merge_edit(one, two)
        elif isinstance(one, Mapping):
            merged[item.name] = {**one, **two}
        else:
            merged[item.name] = one if two is None else two
    return type(earlier)(**merged)


def _merge_edit(earlier: Edit[E], later: Edit[E]) -> Edit[E]:
    if later.replace:
        return later
    # What `later` removes was either added by `earlier`, or is still to be found further down.
    names = {removal.key for removal in later.remove}
    added = {entry.key for entry in earlier.add}
    still = tuple(removal for removal in later.remove if removal.key not in added)
    return Edit(
        add=tuple(entry for entry in earlier.add if entry.key not in names) + later.add,
        remove=earlier.remove + still,
        replace=earlier.replace,
    )


def _settled(sections: Sections) -> Sections:
    """The sections with nothing left to remove.

    Raises:
        PolicyError: when something is removed that was not inherited.
    """
    problems: list[Problem] = []
    for group in (
        sections.filesystem, sections.network, sections.syscalls, sections.process,
        sections.environment, sections,
    ):  # fmt: skip
        for item in dataclasses.fields(group):
            edit = getattr(group, item.name)
            if isinstance(edit, Edit):
                problems.extend(_left(removal, edit) for removal in edit.remove)
    if problems:
        raise PolicyError(problems)
    environment = sections.environment
    kept = {name: setting for name, setting in environment.set.items() if setting.value is not None}
    return dataclasses.replace(
        sections,
        environment=Environment(environment.passed, environment.scrub, kept),
    )


def _left(removal: NameEntry, edit: Edit[Any]) -> Problem:
    inherited = [shown(entry.key) for entry in edit.add]
    name = shown(removal.key)
    return Problem(
        removal.origin.file,
        removal.origin.line,
        removal.origin.column,
        f"{name!r} is removed, but nothing before it added it",
        "an entry of what is extended, as written there",
        nearest_name(name, inherited),
    )
