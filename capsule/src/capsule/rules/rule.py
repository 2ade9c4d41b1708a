r"""One file of rules: YAML → `RuleFile`, or `RuleError` with every place that is wrong.

Read as strictly as a policy: nothing unknown, no anchors, no guessing. Conditions are only taken down here, with their
place in the file; `compile_rules` compiles them.

    parse_rules("version: 1\nrules:\n  - {id: a, on: dns, when: 'dns.length > 90', action: block}", "rules.yaml").rules
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping as Map
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from capsule.errors import PolicyError, Problem
from capsule.policy.document import Mapping, Node, Scalar, Sequence, kind_of, read_document
from capsule.policy.quantities import EXPECTED, parse_quantity
from capsule.policy.reader import NodeReader
from capsule.rules import event as table
from capsule.rules.rewrite import KINDS, Edit, Kind, Where, problem_of

Action = Literal["allow", "ask", "block", "rewrite"]
Owner = Literal["user", "corp"]

ACTIONS: Final = ("allow", "ask", "block", "rewrite")
LEVELS: Final = ("informational", "low", "medium", "high", "critical")
PRIORITIES: Final[Map[str, tuple[int, int, int]]] = {"user": (10, 1000, 500), "corp": (-1000, -10, -500)}
CORP_DIRECTORY: Final = "/etc/capsule/"
MAX_RULES: Final = 2000
MAX_EDITS: Final = 64

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEYS = ("id", "on", "when", "action", "priority", "reason", "level", "ask_timeout", "rewrite", "tests")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_FRACTION = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]{1,3})?")


class RuleError(PolicyError):
    """Rules cannot be used; where they would decide, everything is denied."""


@dataclass(frozen=True, slots=True)
class Example:
    """One event of a rule's tests."""

    event: Map[str, Any]
    holds: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its condition not yet compiled.

    Attributes:
        when: the condition as it stands in the file.
        line: of its id, from 1.
        ask_timeout_ms: how long an answer is waited for; None for the default.
        level: also a finding of this level, when the rule holds.
        places: each event type with its line and column.
        acts: line and column of the action.
    """

    id: str
    on: tuple[str, ...]
    when: Scalar
    action: Action
    priority: int
    owner: Owner
    reason: str
    level: str | None
    ask_timeout_ms: int | None
    edits: tuple[Edit, ...]
    examples: tuple[Example, ...]
    file: str
    line: int
    places: tuple[tuple[str, int, int], ...] = ()
    acts: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The rules of one file, and its text, for errors."""

    file: str
    owner: Owner
    rules: tuple[Rule, ...]
    text: str


def parse_rules(text: str, file: str) -> RuleFile:
    """The rules in `text`.

    Args:
        text: the file's content, untrusted.
        file: its name, as it will appear in decisions and errors.

    Raises:
        RuleError: with at most 50 problems, in the order of the file.
    """
    try:
        if not text.strip():
            raise PolicyError(
                [Problem(file, 1, 1, "the file is empty", next_step="begin with 'version: 1' and 'rules:'")]
            )
        root = read_document(text.encode("utf-8", "surrogatepass"), file)
        reader = _RuleReader(file)
        found = reader.read(root, text.replace("\r\n", "\n"))
        reader.finish()
    except PolicyError as error:
        raise RuleError(error.problems) from None
    return found


class _RuleReader(NodeReader):
    owner: Owner = "user"

    def read(self, root: Mapping, text: str) -> RuleFile:
        parts = dict(self.fields(root, "the file", ("version", "owner", "rules")))
        version = parts.get("version")
        if not (isinstance(version, Scalar) and not version.quoted and version.text == "1"):
            self.refuse(
                version or root,
                "no 'version: 1'",
                "'version: 1' as the first line",
                next_step="this capsule reads version 1 only",
            )
        if "owner" in parts:
            owner = self.word(parts["owner"], "owner", PRIORITIES)
            self.owner = "corp" if owner == "corp" else "user"
            if self.owner == "corp" and not self.file.startswith(CORP_DIRECTORY):
                self.refuse(
                    parts["owner"],
                    "owner is corp",
                    f"user, outside {CORP_DIRECTORY}",
                    next_step=f"move the file to {CORP_DIRECTORY}",
                )
        rules: list[Rule] = []
        if "rules" not in parts:
            self.refuse(root, "the file has no 'rules'", "a list of rules")
        for item in self.items(parts["rules"], "rules") if "rules" in parts else ():
            rule = self.rule(item)
            if rule is None:
                continue
            same = next((other for other in rules if other.id == rule.id), None)
            if same is not None:
                self.refuse(item, f"the id {rule.id!r} is taken", next_step=f"line {same.line} has it")
            rules.append(rule)
        if len(rules) > MAX_RULES:
            self.refuse(root, f"more than {MAX_RULES} rules", next_step="split the file")
        return RuleFile(self.file, self.owner, tuple(rules), text)

    def rule(self, node: Node) -> Rule | None:
        parts = dict(self.fields(node, "a rule", _KEYS))
        for key in ("id", "on", "when", "action"):
            if key not in parts and isinstance(node, Mapping):
                self.refuse(node, f"a rule has no {key!r}", "id, on, when and action")
        if not {"id", "on", "when", "action"} <= set(parts):
            return None
        name = self.text(parts["id"], "id", "a short name")
        if name is not None and not _ID.fullmatch(name):
            self.refuse(parts["id"], f"id is {name[:80]!r}", "at most 64 of a-z, 0-9, '.', '_' and '-'")
        on = self.types(parts["on"])
        when = self.condition(parts["when"])
        action = self.word(parts["action"], "action", ACTIONS)
        low, high, usual = PRIORITIES[self.owner]
        priority = self.priority(parts["priority"], low, high) if "priority" in parts else usual
        level = self.word(parts["level"], "level", LEVELS) if "level" in parts else None
        timeout = self.timeout(parts["ask_timeout"], action) if "ask_timeout" in parts else None
        edits = self.edits(parts.get("rewrite"), action, on, parts["action"])
        examples = self.examples(parts["tests"], on) if "tests" in parts else ()
        if name is None or when is None or action is None or not on:
            return None
        reason = self.reason(parts)
        return Rule(
            name, on, when, cast("Action", action), priority, self.owner, reason, level, timeout, edits, examples,
            self.file, parts["id"].line, _places(parts["on"]), (parts["action"].line, parts["action"].column),
        )  # fmt: skip

    def types(self, node: Node) -> tuple[str, ...]:
        items = node.items if isinstance(node, Sequence) else (node,)
        found = [self.word(item, "on", table.TYPES) for item in items]
        known = tuple(dict.fromkeys(name for name in found if name is not None))
        if not items:
            self.refuse(node, "on is empty", "one event type or more")
        return known

    def condition(self, node: Node) -> Scalar | None:
        # `when: true` is a condition, not a word that needs quotes.
        if isinstance(node, Scalar) and node.text:
            return node
        self.refuse(node, f"when is {kind_of(node)}", 'a condition such as http.host == "x"')
        return None

    def priority(self, node: Node, low: int, high: int) -> int:
        if (
            isinstance(node, Scalar)
            and not node.quoted
            and _NUMBER.fullmatch(node.text)
            and low <= int(node.text) <= high
        ):
            return int(node.text)
        shown = node.text[:40] if isinstance(node, Scalar) else kind_of(node)
        self.refuse(
            node, f"priority is {shown}", f"a whole number from {low} to {high} for owner {self.owner}"
        )
        return low

    def timeout(self, node: Node, action: str | None) -> int | None:
        if action not in {"ask", None}:
            self.refuse(node, f"ask_timeout beside action {action}", "action ask")
        text = node.text if isinstance(node, Scalar) else ""
        try:
            value = parse_quantity(text, "duration")
        except ValueError:
            value = None
        if value is None:
            self.refuse(
                node, f"ask_timeout is {text[:40]!r}", EXPECTED["duration"].removesuffix(", or 'none'")
            )
        return value

    def edits(
        self, node: Node | None, action: str | None, on: tuple[str, ...], place: Node
    ) -> tuple[Edit, ...]:
        if node is None:
            if action == "rewrite":
                self.refuse(place, "action rewrite without 'rewrite'", "a list of edits")
            return ()
        if action not in {"rewrite", None}:
            self.refuse(node, f"rewrite beside action {action}", "action rewrite")
        if not set(on) <= {"http", "http_response"}:
            self.refuse(node, f"rewrite of {', '.join(on)}", "on http or http_response")
        usual: Where = "response" if on == ("http_response",) else "request"
        found = [edit for item in self.items(node, "rewrite") for edit in self.edit_of(item, usual)]
        if not found or len(found) > MAX_EDITS:
            self.refuse(node, f"{len(found)} edits", f"from 1 to {MAX_EDITS}")
        return tuple(found)

    def edit_of(self, node: Node, usual: Where) -> list[Edit]:
        parts = dict(self.fields(node, "an edit", (*KINDS, "with", "in")))
        kinds = [key for key in parts if key in KINDS]
        if len(kinds) != 1:
            if isinstance(node, Mapping):
                self.refuse(node, "an edit has to do exactly one thing", "one of " + ", ".join(KINDS))
            return []
        kind, value = cast("Kind", kinds[0]), parts[kinds[0]]
        where: Where = usual
        if "in" in parts:
            word = self.word(parts["in"], "in", ("request", "response"))
            where = "response" if word == "response" else "request"
        if where == "request" and usual == "response":
            self.refuse(
                parts["in"],
                "an edit of the request by a rule on http_response",
                "in: response",
                next_step="the request has gone by then",
            )
        if where == "response" and kind in {"set_query", "remove_query"}:
            self.refuse(node, f"{kind} in a response", "a response has no query")
        if kind == "redact":
            return self.redaction(value, parts, where)
        if "with" in parts:
            self.refuse(parts["with"], f"'with' beside {kind}", "'with' beside redact")
        pairs: list[tuple[Node, str, Any]] = []
        if kind.startswith("remove_"):
            name = self.text(value, kind, "a name")
            pairs = [(value, name, None)] if name is not None else []
        elif isinstance(value, Mapping) and value.entries:
            for key, inner in value.entries:
                put = (
                    plain(inner)
                    if kind == "set_json"
                    else self.text(inner, f"the value of {key.text}", "text")
                )
                pairs.append((key, key.text, put))
        else:
            self.refuse(value, f"{kind} is {kind_of(value)}", "{name: value}")
        found = (self.checked(place, Edit(kind, name, put, where)) for place, name, put in pairs)
        return [edit for edit in found if edit is not None]

    def redaction(self, node: Node, parts: dict[str, Node], where: Where) -> list[Edit]:
        pattern = self.text(node, "redact", "a pattern")
        put = self.text(parts["with"], "with", "text") if "with" in parts else "[redacted]"
        if pattern is None or put is None:
            return []
        edit = self.checked(node, Edit("redact", pattern, put, where))
        return [] if edit is None else [edit]

    def checked(self, node: Node, edit: Edit) -> Edit | None:
        problem = problem_of(edit)
        if problem is not None:
            self.refuse(node, problem)
            return None
        return edit

    def examples(self, node: Node, on: tuple[str, ...]) -> tuple[Example, ...]:
        found: list[Example] = []
        for key, value in self.fields(node, "tests", ("match", "miss")):
            for item in self.items(value, f"tests.{key}"):
                event = self.event(item, on)
                if event is not None:
                    found.append(Example(event, key == "match", item.line, item.column))
        return tuple(found)

    def event(self, node: Node, on: tuple[str, ...]) -> dict[str, Any] | None:
        """An event of a test; its type is the section it has, unless it says so itself."""
        if not isinstance(node, Mapping):
            self.refuse(node, f"an event is {kind_of(node)}", "a mapping such as {http: {host: x}}")
            return None
        value = {key.text: self.value(key.text, inner) for key, inner in node.entries}
        wrong = table.problems_of(value)
        for problem in wrong:
            self.refuse(node, problem)
        if wrong or not on:
            return None
        types = [name for name in on if table.TYPES[name] in value] or list(on)
        value["event"] = {"type": types[0], **value.get("event", {})}
        return value

    def value(self, path: str, node: Node) -> Any:
        row = table.field(path)
        if path in table.SECTIONS or (row is not None and row.kind == "object"):
            if isinstance(node, Mapping):
                return {key.text: self.value(f"{path}.{key.text}", inner) for key, inner in node.entries}
            return plain(node)
        if isinstance(node, Scalar) and row is not None and row.kind == "string":
            return node.text
        if isinstance(node, Mapping) and row is not None and row.kind == "map":
            return {
                key.text: inner.text if isinstance(inner, Scalar) else plain(inner)
                for key, inner in node.entries
            }
        if isinstance(node, Sequence) and row is not None and row.kind == "strings":
            return [item.text if isinstance(item, Scalar) else plain(item) for item in node.items]
        return plain(node)


def _places(node: Node) -> tuple[tuple[str, int, int], ...]:
    items = node.items if isinstance(node, Sequence) else (node,)
    return tuple((item.text, item.line, item.column) for item in items if isinstance(item, Scalar))


def plain(node: Node) -> Any:
    """The value as JSON has it: quoted scalars are text, plain ones what they look like (YAML 1.2 core schema)."""
    if isinstance(node, Mapping):
        return {key.text: plain(value) for key, value in node.entries}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if node.quoted:
        return node.text
    if (
        node.text in {"true", "false", "null"}
        or _NUMBER.fullmatch(node.text)
        or _FRACTION.fullmatch(node.text)
    ):
        return json.loads(node.text)
    return node.text or None
