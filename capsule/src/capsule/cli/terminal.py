"""All text of the Python verbs. Answers go to standard output, complaints to standard error.

What it refuses: control characters from names and policies reaching the terminal, and a name that writes lines of its
own; both are shown escaped.

    terminal.fault(error)          # capsule: capsule.yaml:3:5: unknown key 'raed' …
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from capsule.errors import CapsuleError, PolicyError, Problem
from capsule.policy.paths import shown
from capsule.sandbox.access import Decision
from capsule.sandbox.changes import Change
from capsule.sandbox.plan import Plan
from capsule.unprintable import made_visible

_USUAL = str.maketrans({"\t": r"\t", "\n": r"\n"})


def plain(text: str) -> str:
    """The text on one line and with control characters escaped, so that it cannot drive the terminal."""
    return made_visible(text.translate(_USUAL))


def near(path: str) -> str:
    """A file as a person here would name it: relative when it lies below the working directory."""
    here = str(Path.cwd()).rstrip("/") + "/"
    return path.removeprefix(here)


def say(text: str = "") -> None:
    """One line of the answer."""
    sys.stdout.write(plain(text) + "\n")


def say_lines(text: str) -> None:
    """An answer whose lines are ours."""
    for line in text.rstrip("\n").split("\n"):
        say(line)


def say_painted(lines: Iterable[str]) -> None:
    """Lines whose colours are ours; whoever builds them has escaped what is not."""
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """The answer as one line of JSON; characters that could drive a terminal are escaped as JSON escapes them."""
    line = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    sys.stdout.write(escaped(line) + "\n")


def escaped(text: str) -> str:
    """JSON text whose unprintable characters (JSON leaves DEL, C1 and directions as they are) are escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def say_bytes(data: bytes) -> None:
    """The answer as it is, and a newline."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def complain(lines: Iterable[str]) -> None:
    """Lines on standard error, each marked as ours."""
    for line in lines:
        sys.stderr.write(f"capsule: {plain(line)}\n")


def _problem(problem: Problem) -> None:
    """A problem, its file named from here, and below it the place that it quotes."""
    what, quoted = problem.quoting()
    complain([near(what)])
    sys.stderr.writelines(plain(line) + "\n" for line in quoted)


def fault(error: CapsuleError) -> None:
    """What went wrong, and what to do."""
    if isinstance(error, PolicyError):
        for problem in error.problems:
            _problem(problem)
        complain([error.next_step])
    else:
        complain([error.message, error.next_step])


def unanswered(message: str, next_step: str, code: int) -> None:
    """There is no answer, for programs that asked for JSON; the words are on standard error as ever."""
    say_json({"ok": False, "error": {"message": message, "next_step": next_step}, "exit": code})


def usage(error: click.ClickException) -> None:
    """The command line was wrong."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        # What was left out is what the help lists.
        sys.stderr.write(error.format_message() + "\n")
        return
    # Click lists choices on lines of their own.
    complain([error.format_message().replace("\n\t", " ")])
    if isinstance(error, click.UsageError) and error.ctx is not None:
        complain([f"try '{error.ctx.command_path} --help'"])


def problem_json(problem: Problem) -> dict[str, Any]:
    """A problem for programs."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "what": problem.what,
        "expected": problem.expected or None,
        "nearest": problem.nearest,
        "next_step": problem.next_step or None,
    }


GRANTS_NOTHING = "nothing may be executed, so no command can start; did you leave out 'extends: [workspace]'?"
_VERDICTS = {
    "granted": "allowed",
    "denied": "denied",
    "protected": "protected: it may be read and never changed",
    "hidden": "hidden: the command sees nothing there",
    "not_granted": "denied: nothing allows it",
}


def verdict(decision: Decision) -> str:
    """A decision in a few words."""
    return _VERDICTS[decision.kind]


def say_decision(decision: Decision) -> None:
    """The line that decided, and the line that would change it."""
    if decision.rule is not None:
        say(f"  by {near(decision.rule.origin.file)}:{decision.rule.origin.line}  {decision.rule.text}")
    if decision.own is not None:
        say(f"  by capsule itself: {decision.own}")
    if decision.allow is not None:
        say(f"  to allow: {decision.allow}")
    elif not decision.granted and decision.rule is not None:
        say("  to allow: take that line out of the policy")


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision for programs."""
    rule = decision.rule
    return {
        "allowed": decision.granted,
        "kind": decision.kind,
        "rule": rule and {"text": rule.text, "file": rule.origin.file, "line": rule.origin.line},
        "allow": decision.allow,
        "own": decision.own,
    }


def change_json(change: Change) -> dict[str, Any]:
    """A change for programs."""
    origin = change.origin
    return {
        "risk": change.risk.name.lower(),
        "what": change.what,
        "file": origin and origin.file,
        "line": origin and origin.line,
    }


def say_change(change: Change) -> None:
    """One change on one line."""
    place = f"   ({near(change.origin.file)}:{change.origin.line})" if change.origin is not None else ""
    say(f"{change.risk.name.lower():<9} {change.what}{place}")


def summary_json(plan: Plan) -> dict[str, Any]:
    """What a plan grants, in numbers and short lists."""
    fs = plan.filesystem
    egress = plan.network.egress
    return {
        "name": plan.name,
        "digest": plan.policy.digest,
        "sources": [source.path for source in plan.policy.sources],
        "read": [shown(grant.path) for grant in fs.read],
        "write": [shown(grant.path) for grant in fs.write],
        "execute": [shown(grant.path) for grant in fs.execute],
        "deny": [shown(entry.pattern) for entry in fs.deny],
        "protect": [shown(entry.pattern) for entry in fs.protect],
        "private": [shown(place.path) for place in fs.private],
        "hide": [shown(place.path) for place in fs.hide],
        "ports": list(plan.network.ports),
        "unix": [shown(grant.path) for grant in plan.network.unix],
        "network": plan.network.mode,
        "hosts": list(dict.fromkeys(entry.host for entry in egress.hosts)) if egress is not None else [],
        "secrets": [f"{secret.name} → {', '.join(secret.to)}" for secret in egress.secrets]
        if egress is not None
        else [],
        "rules": [shown(rule.path) for rule in egress.rules] if egress is not None else [],
        "detect": [entry.pack or shown(entry.path or "") for entry in egress.detect]
        if egress is not None
        else [],
        "syscalls": len({entry.name for entry in plan.syscalls.allowed()}),
        "require": list(plan.require),
        "audit": plan.audit,
    }


def say_summary(plan: Plan) -> None:
    """What a plan grants, for a person."""
    for key, value in summary_json(plan).items():
        if value not in ([], None):
            say(f"{key + ':':<10} {', '.join(map(str, value)) if isinstance(value, list) else value}")


def say_schema(schema: dict[str, Any], *, compact: bool) -> None:
    """A JSON Schema, indented for people unless `compact`."""
    if compact:
        say_json(schema)
    else:
        sys.stdout.write(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
