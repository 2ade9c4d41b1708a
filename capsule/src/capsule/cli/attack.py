"""`capsule attack`: the corpus of attacks against your policy on this machine, judged from the host.

It refuses to touch what is yours: home, workspace, log and key of every attack are throw-away ones, and
everything is removed at the end.

    capsule attack --only fs --only net.dns
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import click

from capsule.attack import table
from capsule.attack.case import Result
from capsule.attack.corpus import CASES, UnknownCaseError, chosen
from capsule.attack.runner import Arena
from capsule.cli import terminal
from capsule.cli.files import load_policy, policy_in_force
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.launcher import find_binary


class Progress:
    """How far it is and how long it will take: on standard error a bar, or a plain line for each tenth.

    The estimate is what the attacks so far took: some wait for a timeout, so it is rough.
    """

    def __init__(self, total: int, *, shown: bool, bar: bool = True) -> None:
        self._total, self._shown, self._bar = total, shown, bar
        self._began = time.monotonic()
        self._told = 0

    def at(self, done: int, name: str) -> None:
        """Say that `done` are over and `name` is next."""
        if not self._shown:
            return
        if self._bar:
            full = 24 * done // max(1, self._total)
            bar = "━" * full + "─" * (24 - full)
            left = f"  {self._left(done)}" if done else ""
            sys.stderr.write(f"\r\x1b[K{bar} {done}/{self._total}{left}  {name}")
        elif (tenth := 10 * done // max(1, self._total)) > self._told:
            self._told = tenth
            sys.stderr.write(f"capsule: {done} of {self._total} attacks done, {self._left(done)}\n")
        sys.stderr.flush()

    def _left(self, done: int) -> str:
        each = (time.monotonic() - self._began) / done
        seconds = round(each * (self._total - done))
        return f"about {seconds // 60} min left" if seconds >= 120 else f"about {seconds} s left"

    def clear(self) -> None:
        """Leave no trace of the bar."""
        if self._shown and self._bar:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@click.command(
    "attack",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: capsule attack --policy capsule.yaml --only fs",
)
@click.option(
    "--policy", metavar="FILE_OR_PRESET", help="The policy to attack; that of a run here when absent."
)
@click.option(
    "--only", metavar="ID", multiple=True, help="An id, a family (fs) or a pattern (fs.read-*); repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.option("--list", "only_list", is_flag=True, help="List the attacks and run none.")
def command(policy: str | None, only: tuple[str, ...], as_json: bool, only_list: bool) -> int:
    """Attack a policy on this machine. Exits 0 held, 1 an attack succeeded, 3 nothing was learnt."""
    try:
        cases = chosen(only, CASES)
    except UnknownCaseError as error:
        raise click.UsageError(f"{error}; 'capsule attack --list' shows all") from None
    if only_list:
        for line in table.listing(cases):
            terminal.say(line)
        return 0
    reference = policy_in_force(policy, Path.cwd())
    # Every problem of the policy is said now, once, and not once for each attack.
    egress = compile_policy(load_policy(reference)).network.egress
    sources = [secret.source for secret in egress.secrets] if egress is not None else []
    variables = [source.env for source in sources if source.env is not None]
    width = min(100, shutil.get_terminal_size((80, 24)).columns)
    colour = sys.stdout.isatty()
    results: list[Result] = []
    began = time.monotonic()
    progress = Progress(len(cases), shown=not as_json, bar=sys.stderr.isatty())
    if not as_json:
        terminal.say(f"attacking {terminal.near(reference)}: {len(cases)} attack{'s' * (len(cases) != 1)}")
    with Arena(capsule=str(find_binary()), extends=reference, variables=variables) as arena:
        for case in cases:
            progress.at(len(results), case.id)
            results.append(arena.judge(case))
            progress.clear()
            if not as_json:
                terminal.say_painted(table.lines(results[-1], width=width, colour=colour))
    seconds = time.monotonic() - began
    if as_json:
        terminal.say_json(table.document(results, policy=reference, seconds=seconds))
    else:
        terminal.say_painted([table.summary(results, seconds, colour=colour)])
    return table.exit_code(results)
