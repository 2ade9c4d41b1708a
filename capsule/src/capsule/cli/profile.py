"""`capsule profile`: watch commands under the sandbox, suggest the smallest policy that lets them."""

from __future__ import annotations

from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.files import load_policy
from capsule.cli.program import CommandWords
from capsule.errors import UsageError
from capsule.policy.paths import parse_path
from capsule.policy.presets import NAMES
from capsule.profile.compare import Grant, Want, missing_grants, prune, unused_grants
from capsule.profile.observation import Observation, merge
from capsule.profile.render import render_suggestion
from capsule.profile.suggest import Base, Suggestion, suggest
from capsule.profile.trace import (
    TraceError,
    observe,
    read_commands,
    store,
    stored,
    with_interpreters,
    write_whole,
)
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import Plan, PlanGrant, PlanPlace

BASE = "strict"
# The preset whose guards a suggestion keeps where anything may be written.
GUARDS = "workspace"
EPILOG = "Example: capsule profile --out-dir sysprofile -- pytest -q"
UNSTARTED = ("not_found", "not_executable", "refused")
"""Causes of an end at which nothing ran (docs/formats/report.md)."""


@click.command("profile", epilog=EPILOG, context_settings={"ignore_unknown_options": False})
@click.argument(
    "words",
    nargs=-1,
    metavar="COMMANDS.txt | -- CMD...",
    required=True,
    type=CommandWords(only_after_dashes=True),
)
@click.option(
    "--out-dir", type=click.Path(path_type=Path, file_okay=False), help="Keep and merge observations here."
)
@click.option(
    "--policy", metavar="FILE_OR_PRESET", help="Policy in force while watching, and to compare with."
)
@click.option(
    "--diff", "show_diff", is_flag=True, help="Compare with --policy instead of suggesting a new one."
)
@click.option(
    "--prune",
    "prune_unused",
    is_flag=True,
    help="Write --policy without the grants that nothing used, into --out-dir.",
)
@click.option("--fresh", is_flag=True, help="Forget what earlier runs left in --out-dir.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(
    *,
    words: tuple[str, ...],
    out_dir: Path | None,
    policy: str | None,
    show_diff: bool,
    prune_unused: bool,
    fresh: bool,
    as_json: bool,
) -> int:
    """Run COMMANDS.txt (one command a line) or one command under the sandbox, and watch.

    Writes observation.json and capsule.yaml into --out-dir, merged over runs; without it the suggested policy goes to
    standard output. What the commands print goes to standard error. Exits 0, or 1 when a command failed or --diff finds
    a difference.
    """
    if (show_diff or prune_unused) and policy is None:
        raise UsageError("--diff and --prune compare with a policy", next_step="name it with --policy")
    if prune_unused and (out_dir is None or policy in NAMES):
        raise UsageError("--prune writes a file", next_step="name a policy file with --policy, and --out-dir")
    seen, failed = _watch(words, policy)
    if out_dir is not None:
        seen = store(out_dir, seen, None if fresh else stored(out_dir))
    if show_diff or prune_unused:
        assert policy is not None
        differs = _compare(seen, policy, out_dir if prune_unused else None, as_json=as_json)
        return 1 if failed or (show_diff and differs) else 0
    seen = with_interpreters(seen)
    place = None if out_dir is None else str(out_dir.resolve())
    suggestion = suggest(seen, base=base_of(seen), place=place)
    text = render_suggestion(suggestion)
    if out_dir is not None:
        write_whole(out_dir / "capsule.yaml", text.encode())
    if as_json:
        terminal.say_json(_suggestion_json(suggestion, text, failed))
    elif out_dir is None:
        terminal.say_lines(text.rstrip())
    else:
        marked = sum(line.warning is not None for line in suggestion.lines) + len(suggestion.refused)
        evidence = f"{len(suggestion.lines)} lines from {seen.runs} runs, {marked} to look at twice"
        terminal.say(f"{out_dir / 'capsule.yaml'}: {evidence}")
    return 1 if failed else 0


def _watch(words: tuple[str, ...], policy: str | None) -> tuple[Observation, list[dict[str, object]]]:
    """What was seen, and which commands did not end well."""
    listed = len(words) == 1 and words[0].endswith(".txt")
    commands = read_commands(Path(words[0])) if listed else [list(words)]
    found: list[Observation] = []
    failed: list[dict[str, object]] = []
    for number, each in enumerate(commands, 1):
        if len(commands) > 1:
            terminal.complain([f"profile: {number}/{len(commands)}: {each[-1]}"])
        seen = observe(each, policy=policy)
        if seen.cause in UNSTARTED:
            raise TraceError(
                f"{each[0]} did not start ({seen.cause.replace('_', ' ')}), so nothing was observed",
                next_step="see the line above",
            )
        if seen.cause != "exited" or seen.code:
            shown = " ".join(each) if not listed else each[-1]
            failed.append({"number": number, "command": shown, "cause": seen.cause, "code": seen.code})
        found.append(seen)
    for end in failed:
        how = f"exited {end['code']}" if end["cause"] == "exited" else f"{end['cause']} ({end['code']})"
        terminal.complain([f"profile: {end['number']}/{len(commands)} {how}: {end['command']}"])
    if failed:
        terminal.complain(["profile: what a command needs after the point where it failed is not known"])
    return merge(*found), failed


def _places(grants: tuple[PlanGrant, ...] | tuple[PlanPlace, ...], variables: Variables) -> tuple[str, ...]:
    return tuple(variables.path(grant.path) for grant in grants)


def _variables(seen: Observation) -> Variables:
    return Variables(seen.workspace, seen.home, seen.workspace)


def base_of(seen: Observation) -> Base:
    """What the preset beneath a suggestion grants already."""
    policy = load_policy(BASE)
    files = compile_policy(policy).filesystem
    variables = _variables(seen)
    return Base(
        BASE,
        _places(files.read, variables),
        _places(files.write, variables),
        _places(files.execute, variables),
        _places(files.private, variables),
        tuple(entry.name for entry in policy.sections.syscalls.groups.add),
        tuple(
            variables.path(rule.pattern) for rule in compile_policy(load_policy(GUARDS)).filesystem.protect
        ),
    )


def _grants(plan: Plan, seen: Observation, file: str) -> list[Grant]:
    kinds: tuple[tuple[Want, tuple[PlanGrant, ...]], ...] = (
        ("read", plan.filesystem.read),
        ("write", plan.filesystem.write),
        ("execute", plan.filesystem.execute),
    )
    variables = _variables(seen)
    return [
        Grant(want, variables.path(grant.path), grant.origin.file, grant.origin.line)
        for want, grants in kinds
        for grant in grants
        if grant.origin.file == file
    ]


def _compare(seen: Observation, reference: str, out_dir: Path | None, *, as_json: bool) -> int:
    policy = load_policy(reference)
    plan = compile_policy(policy)
    access = Access(plan, _variables(seen), policy.sections.environment)
    missing = missing_grants(seen, lambda want, path: access.path(path, want).granted)
    top = policy.sources[0].path
    unused = unused_grants(seen, _grants(plan, seen, top))
    if out_dir is not None:
        text = Path(top).read_text(encoding="utf-8")
        variables = _variables(seen)

        def resolve(path: str) -> str:
            return variables.path(parse_path(path, globs=False))

        write_whole(out_dir / "capsule.yaml", prune(text, unused, seen, resolve).encode())
    if as_json:
        terminal.say_json(
            {
                "refused": [{"want": m.want, "path": m.path, "count": m.count} for m in missing],
                "unused": [{"want": g.want, "path": g.path, "file": g.file, "line": g.line} for g in unused],
            }
        )
    else:
        for use in missing:
            terminal.say(f"refused  {use.want:<8}{use.path}   ({use.count} uses)")
        for grant in unused:
            terminal.say(f"unused   {grant.want:<8}{grant.path}   ({terminal.near(grant.file)}:{grant.line})")
        if not missing and not unused:
            terminal.say("the policy grants what was used, and nothing else of its own")
        if out_dir is not None:
            terminal.say(f"{out_dir / 'capsule.yaml'}: written without the unused lines")
    return 1 if missing or unused else 0


def _suggestion_json(suggestion: Suggestion, text: str, failed: list[dict[str, object]]) -> dict[str, object]:
    return {
        "failed": failed,
        "refused": [{"path": x.path, "count": x.count, "warning": x.warning} for x in suggestion.refused],
        "unreached": [
            {"address": x.address, "count": x.count, "why": x.why, "rule": x.rule}
            for x in suggestion.unreached
        ],
        "runs": suggestion.observation.runs,
        "lost": suggestion.observation.lost,
        "lines": [
            {
                "section": x.section,
                "value": x.value,
                "subject": x.subject,
                "count": x.count,
                "warning": x.warning,
            }
            for x in suggestion.lines
        ],
        "unused_groups": list(suggestion.unused_groups),
        "too_wide": list(suggestion.too_wide),
        "policy": text,
    }
