"""`capsule replay`: what another policy would have decided."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from capsule.cli import terminal
from capsule.cli.files import load_policy
from capsule.cli.policy.kept import why_kept
from capsule.cli.reference import PolicyReference
from capsule.cli.sessions.source import Run, SessionName, find, log_option, opened
from capsule.cli.sessions.table import painter, table, width
from capsule.policy.model import Policy
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sessions.environment import variables_of
from capsule.sessions.query import Reader
from capsule.sessions.replay import Comparison, Replay, grouped, ranked

_COLOURS = {"block": "red", "ask": "yellow", "allow": "green"}
SHOWN = 40


@click.command("replay", epilog="Example: capsule replay --policy stricter.yaml r-898ab5d2")
@click.argument("sessions", nargs=-1, metavar="[SESSION]...", type=SessionName())
@click.option(
    "--policy",
    required=True,
    metavar="FILE_OR_PRESET",
    type=PolicyReference(),
    help="The policy that decides anew.",
)
@log_option
@click.option("--all", "all_", is_flag=True, help="Every change, however many there are.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(
    *, sessions: tuple[str, ...], policy: str, logs: tuple[Path, ...], all_: bool, as_json: bool
) -> int:
    """Decide every recorded event of SESSION... (the newest) under another policy, and show what would change.

    Nothing runs and nothing is sent. Exits 1 when something would change, else 0. What a log does not have is not
    decided: reads below `audit: all`, system calls, bodies, budgets. Of variables it has the names that the command was
    given and those that were kept from it, not which of them a program read.
    """
    loaded = load_policy(policy)
    with opened(logs) as reader:
        runs = [find(reader, name, logs) for name in sessions or (None,)]
        compared = compare(reader, runs, loaded)
    if as_json:
        terminal.say_json(record(compared, runs))
    else:
        say(compared, runs, SHOWN if not all_ else None)
    return 1 if compared.changed else 0


def compare(reader: Reader, runs: Iterable[Run], policy: Policy) -> Comparison:
    """Decide the events of these sessions anew."""
    compared = Comparison()
    plan = compile_policy(policy)
    judge = None
    for run in runs:
        access = Access(plan, _variables(policy, run), policy.sections.environment)
        if plan.network.egress is not None and judge is None:
            judge = _judge(access)
        replay = Replay(access, judge, functools.partial(_kept, policy, access))
        for each in reader.happened(run):
            if each.entry == "repository":
                replay.follow(each.event)
            elif each.entry == "run.started":
                for variable in variables_of(each.event):
                    compared.add(replay, run["run"], each.seq, "environment", variable)
            elif each.entry in _DECIDED:
                compared.add(replay, run["run"], each.seq, each.type, each.event)
    return compared


_DECIDED = frozenset(
    {"exec", "write", "read", "connect", "denied", "egress.http", "egress.tcp", "egress.dns"}
)


def _kept(policy: Policy, access: Access, path: str, want: str) -> str | None:
    return why_kept(path, want, policy, access)


def _variables(policy: Policy, run: Run) -> Variables:
    here = str(run["cwd"] or Path.cwd())
    top = policy.sources[0].path
    return Variables(
        here if top.startswith("preset:") else str(Path(top).parent), str(Path.home().resolve()), here
    )


def _judge(access: Access) -> Any:
    # Only a policy with hosts needs what egress decides by, and what evaluates rules.
    import msgspec

    from capsule.cli.policy.url import rules_of
    from capsule.egress.frames import Egress
    from capsule.egress.judgement import Judge

    egress = msgspec.json.decode(msgspec.json.encode(access.plan.network.egress), type=Egress)
    return Judge(egress, rules_of(access))


def record(compared: Comparison, runs: list[Run]) -> dict[str, Any]:
    """For programs."""
    return {
        "sessions": [run["run"] for run in runs],
        "same": compared.same,
        "changed": compared.changed,
        "undecided": compared.undecided,
        "changes": [
            {
                "was": change.was, "now": change.now, "type": change.kind, "what": change.what, "count": change.count,
                "why": change.answer.why, "place": change.answer.place or None, "run": change.run, "seq": change.seq,
            }
            for change in ranked(compared.changes.values())
        ],
    }  # fmt: skip


def say(compared: Comparison, runs: list[Run], most: int | None) -> None:
    """For a person."""
    found = ranked(compared.changes.values()) if most is None else grouped(compared.changes.values())
    paint = painter()
    for now, title in (
        ("block", "would be refused"),
        ("ask", "would be asked about"),
        ("allow", "would be allowed"),
    ):
        rows = [
            (change.count, change.what, _why(change.answer.why, change.answer.place))
            for change in found[:most]
            if change.now == now
        ]
        if rows:
            terminal.say_painted([paint(_COLOURS[now], title)])
            terminal.say_painted(
                f"  {line}"
                for line in table(
                    ("COUNT", "WHAT", "BECAUSE"), rows, width=width() - 2, gives=2, right=(0,), paint=paint
                )
            )
    if most is not None and len(found) > most:
        terminal.say(f"… {len(found) - most} more; --all shows them")
    of = "the session" if len(runs) == 1 else f"{len(runs)} sessions"
    total = compared.same + compared.changed
    terminal.say(f"{compared.changed} of {total} recorded events of {of} would be decided otherwise")
    if any(run["audit"] not in ("all", None) for run in runs):
        terminal.say("reads were not recorded (audit below `all`), so they were not decided")


def _why(why: str, place: str) -> str:
    return f"{why} ({terminal.near(place)})" if place else why
