"""What a machine's monitor put on the log while a command ran, counted: for whoever asked for the command.

Several commands at once see the same: an entry belongs to the machine, not to one of them. It refuses to grow: the
lists have an end, texts are cut, and what is left out is counted.

    seeing = Seeing()
    seeing.add("egress.http", {"decision": {"action": "block"}, …})
    seeing.seen().refused_total                    # 1
"""

from __future__ import annotations

from typing import Any

from capsem.wire.monitor import Finding, Refusal, Seen
from capsule.rules.entry import section

REFUSALS, FINDINGS = 40, 20
_TEXT = 200
_COUNTED = {
    "egress.http": "requests", "egress.dns": "names", "egress.tcp": "connections", "egress.model": "model_calls",
    "egress.ask": "asks",
}  # fmt: skip


class Seeing:
    """Entries since a moment."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys((*_COUNTED.values(), "tokens", "cost_microdollars"), 0)
        self._refused: list[Refusal] = []
        self._refused_total = 0
        self._findings: list[Finding] = []
        self.of_network = 0

    def add(self, kind: str, entry: dict[str, Any]) -> None:
        """One entry that was written."""
        self.of_network += kind.startswith("egress.")
        if kind in _COUNTED:
            self._counts[_COUNTED[kind]] += 1
        if kind == "egress.model":
            model = section(entry, "model")
            self._counts["tokens"] += _count(model, "input_tokens") + _count(model, "output_tokens")
            self._counts["cost_microdollars"] += _count(model, "cost_microdollars")
        if kind in {"egress.finding", "guest.finding"} and len(self._findings) < FINDINGS:
            rule = section(entry, "rule")
            self._findings.append(Finding(*(_text(rule, name) for name in ("id", "title", "level"))))
        decision = section(entry, "decision")
        if decision.get("action") == "block":
            self._refused_total += 1
            if len(self._refused) < REFUSALS:
                self._refused.append(_refusal(kind, entry, decision))

    def seen(self) -> Seen:
        """What it was."""
        return Seen(
            **self._counts, refused=tuple(self._refused), refused_total=self._refused_total,
            findings=tuple(self._findings),
        )  # fmt: skip


def _refusal(kind: str, entry: dict[str, Any], decision: dict[str, Any]) -> Refusal:
    rule, program = section(decision, "rule"), section(entry, "program")
    line = rule.get("line")
    return Refusal(
        kind=kind.rpartition(".")[2], what=_what(kind, entry)[:_TEXT], by=_text(decision, "by"),
        reason=_text(decision, "reason"), allow=_text(decision, "allow") or None, rule=_text(rule, "id") or None,
        file=_text(rule, "file") or None, line=line if isinstance(line, int) else None,
        program=_text(program, "path") or None, reported_by=_text(program, "reported_by") or None,
    )  # fmt: skip


def _what(kind: str, entry: dict[str, Any]) -> str:
    match kind:
        case "egress.http":
            http = section(entry, "http")
            place = f"{_text(http, 'host')}{_text(http, 'path')}"
            return f"{_text(http, 'method')} {_text(http, 'scheme') or 'http'}://{place}"
        case "egress.dns":
            return _text(section(entry, "dns"), "name")
        case "egress.tcp":
            tcp = section(entry, "tcp")
            return f"{_text(tcp, 'host') or _text(tcp, 'sni') or _text(tcp, 'address')}:{tcp.get('port')}"
        case "machine.dial":
            dial = section(entry, "dial")
            return f"{_text(dial, 'host')}:{dial.get('port')}"
        case "machine.exec":
            return _text(section(entry, "process"), "command")
        case "machine.file":
            return f"{_text(entry, 'operation')} {_text(entry, 'target')}"
        case _:
            return kind


def _text(fields: dict[str, Any], name: str) -> str:
    found = fields.get(name)
    return found[:_TEXT] if isinstance(found, str) else ""


def _count(section: dict[str, Any], name: str) -> int:
    found = section.get(name)
    return found if isinstance(found, int) and found > 0 else 0
