"""`capsule learn`: the smallest policy that would have allowed what past sessions did."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.files import FileLoader, load_policy
from capsule.cli.output import save
from capsule.cli.profile import BASE, base_of
from capsule.cli.replay import compare, record, say
from capsule.cli.sessions.source import Run, SessionName, find, log_option, opened
from capsule.errors import PolicyError, UsageError
from capsule.policy.merge import resolve
from capsule.policy.model import Policy, Source
from capsule.profile.observation import AddressUse, FileUse, Observation, ProgramUse
from capsule.profile.render import quote, render_suggestion
from capsule.profile.suggest import Line, Suggestion, suggest
from capsule.profile.trace import with_interpreters
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sessions.environment import Environment, Granted
from capsule.sessions.learn import Learner
from capsule.sessions.query import Reader

_KINDS = frozenset({"exec", "write", "read", "connect", "denied", "egress.dns", "egress.http", "egress.tcp"})
SHOWN = 20
_NAMES = 20
"""Variables that a note names."""


@click.command("learn", epilog="Example: capsule learn r-898ab5d2 --out learnt.yaml")
@click.argument("sessions", nargs=-1, metavar="[SESSION]...", type=SessionName())
@log_option
@click.option("--refused", is_flag=True, help="Learn what was refused too, as if it had been allowed.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the policy there.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(
    *, sessions: tuple[str, ...], logs: tuple[Path, ...], refused: bool, out: Path | None, as_json: bool
) -> None:
    """Propose the smallest policy that would have allowed what SESSION... (the newest) did.

    Each line says how often it was used; LOOK TWICE marks what deserves a reason of its own. Then every recorded event
    is decided again under it, and what would change is said. System calls are on no log: `capsule profile` sees them.
    """
    with opened(logs) as reader:
        runs = [find(reader, name, logs) for name in sessions or (None,)]
        learner = _learn(reader, runs, refused=refused)
        suggestion = _suggestion(learner, runs)
        text = _text(suggestion, learner, runs)
        compared = compare(reader, runs, _policy(text, runs))
    if out is not None:
        save(out, text.encode())
    if as_json:
        terminal.say_json(
            {
                "policy": text,
                "lines": [dataclasses.asdict(line) for line in suggestion.lines],
                "refused": dict(learner.denied),
                "left_out": dict(learner.left_out),
                "secrets": dict(learner.secrets),
                "withheld": dict(learner.environment.withheld),
                "replay": record(compared, runs),
            }
        )
        return
    if out is None:
        terminal.say_lines(text.rstrip())
    else:
        marked = sum(line.warning is not None for line in suggestion.lines)
        terminal.say(f"{out}: {len(suggestion.lines)} lines, {marked} to look at twice")
    terminal.say()
    say(compared, runs, SHOWN)


def _learn(reader: Reader, runs: Sequence[Run], *, refused: bool) -> Learner:
    places = sorted({str(run["cwd"]) for run in runs})
    if len(places) > 1:
        raise UsageError(
            f"these sessions are of different directories: {', '.join(places)}",
            next_step="learn from those of one",
        )
    if runs[0]["cwd"] is None:
        raise UsageError(
            f"{runs[0]['run']} has no start on the log, so its directory is not known",
            next_step="name a session that `capsule run` started",
        )
    learner = Learner(refused=refused)
    for run in runs:
        for each in reader.happened(run):
            if each.entry == "run.started":
                learner.environment.add(each.event)
            elif each.entry in _KINDS:
                learner.add(each.type, each.event)
    return learner


def _suggestion(learner: Learner, runs: Sequence[Run]) -> Suggestion:
    seen = Observation(
        observation=1,
        runs=len(runs),
        command=tuple(_command(runs[-1])),
        workspace=str(runs[-1]["cwd"]),
        home=str(Path.home().resolve()),
        cause=str(runs[-1]["cause"]),
        code=runs[-1]["code"],
        syscalls=(),
        implied=(),
        files=tuple(FileUse(path, **counts) for path, counts in sorted(learner.files.items())),
        programs=tuple(ProgramUse(path, count) for path, count in sorted(learner.programs.items())),
        addresses=tuple(
            AddressUse(name, "connect", count) for name, count in sorted(learner.addresses.items())
        ),
        lost=0,
    )
    seen = with_interpreters(seen)
    found = suggest(seen, base=base_of(seen))
    lines = list(found.lines)
    if not any(run["audit"] == "all" for run in runs) and not _covered(lines):
        why = "reads were not recorded: this is a guess"
        lines.insert(0, Line("filesystem.read", ".", seen.workspace, "the directory it ran in", 0, why))
    hosts = learner.hosts()
    for host in hosts:
        evidence = f"{host.count} {'request' if host.count == 1 else 'requests'}"
        lines.append(Line("network.hosts", host.entry(), host.host, evidence, host.count, host.warning))
    if (hosts or learner.addresses) and "network" not in found.base.groups:
        count = sum(host.count for host in hosts) + learner.addresses.total()
        lines.append(Line("syscalls.groups", "network", "network", f"{count} connections", count))
    lines += _variables(learner, runs)
    # Which groups of system calls were used is not on a log: none may be called unused.
    return dataclasses.replace(found, lines=tuple(lines), unused_groups=())


def _variables(learner: Learner, runs: Sequence[Run]) -> list[Line]:
    """Entries of `env`; what cannot be proposed is left to the notes."""
    base = load_policy(BASE)
    access = Access(compile_policy(base), Variables("/", "/", "/"), base.sections.environment)
    granted, unwritable, learner.unset = learner.environment.grants(access, _values(runs))
    for name in unwritable:
        learner.left_out[f"variable {name}"] += learner.environment.passed[name]
    return [_variable(each, len(runs)) for each in granted]


def _variable(granted: Granted, runs: int) -> Line:
    verb = {"pass": "passed", "set": "set", "scrub.remove": "passed"}[granted.key]
    evidence = verb if runs == 1 else f"{verb} in {granted.count} of {runs} sessions"
    value = granted.name if granted.value is None else f"{granted.name}: {quote(granted.value)}"
    return Line(f"env.{granted.key}", value, granted.name, evidence, granted.count, granted.warning)


def _values(runs: Sequence[Run]) -> dict[str, str]:
    """What the policies of these sessions set, as far as they are what they were; of two values the newer one's."""
    found: dict[str, str] = {}
    for run in runs:
        try:
            policy = load_policy(str(run["policy_file"] or "").removeprefix("preset:"))
        except PolicyError:
            continue
        plan = compile_policy(policy)
        if plan.policy.digest == run["policy_digest"]:
            found |= plan.environment.set
    return found


def _covered(lines: Sequence[Line]) -> bool:
    return any(
        line.value == "." and line.section in ("filesystem.read", "filesystem.write") for line in lines
    )


def _command(run: Run) -> list[str]:
    return list(json.loads(run["command"])) if run["command"] else []


def _text(suggestion: Suggestion, learner: Learner, runs: Sequence[Run]) -> str:
    text = render_suggestion(suggestion, name="learnt")
    notes = [
        "",
        f"# Learnt from {', '.join(run['run'] for run in runs)}. System calls are not on a log.",
        *_notes(learner.environment, learner.unset, runs),
    ]
    if any(run["audit"] != "all" for run in runs):
        notes.append(
            "# Reads were not recorded in all of them: `capsule run --audit all` records them, to learn them too."
        )
    if learner.secrets:
        names = ", ".join(quote(name) for name in sorted(learner.secrets))
        notes.append(
            f"# LOOK TWICE: they used the secrets {names}; take `secrets:` (and `upstreams:`, `authorities:`) over"
        )
        notes.append("# from the policy they ran under: a log has no more than the names.")
    for title, counts in (("Refused, and not learnt", learner.denied), ("Not expressible", learner.left_out)):
        notes += [f"# {title}: {quote(what[:160])} ({count} times)" for what, count in counts.most_common(20)]
        if len(counts) > 20:
            notes.append(f"# {title}: {len(counts) - 20} more")
    return text + "\n".join(notes) + "\n"


def _notes(seen: Environment, unset: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """What is not known of variables."""
    under = ", ".join(sorted({quote(str(run["policy"])) for run in runs if run["policy"]})) or "not known"
    notes = [
        "# `env` is what they were given. Which of it a program read is on no log: take away what none needs."
    ]
    if seen.unknown or seen.incomplete:
        which = f"{seen.unknown + seen.incomplete} of {len(runs)}"
        notes.append(f"# The log of {which} does not have all names: take `env:` over from {under}.")
    if unset:
        names = ", ".join(quote(name) for name in unset[:_NAMES])
        notes.append(f"# LOOK TWICE: set by what they ran under ({under}), to what is not copied: {names}")
    if seen.withheld:
        names = ", ".join(quote(name[:80]) for name in sorted(seen.withheld)[:_NAMES])
        more = f" and {len(seen.withheld) - _NAMES} more" if len(seen.withheld) > _NAMES else ""
        notes.append(f"# Kept from them; whether a program asked for one is not known: {names}{more}")
    return notes


def _policy(text: str, runs: Sequence[Run]) -> Policy:
    """The policy as it would be read from the directory of the sessions."""
    path = f"{str(runs[-1]['cwd']).rstrip('/')}/learnt.yaml"
    return resolve(Source(path, text.encode()), FileLoader())
