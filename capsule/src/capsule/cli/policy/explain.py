"""`capsule policy explain`: is this allowed, by which line, and which line would change it?"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capsule.cli import terminal
from capsule.cli.policy.access import load_access
from capsule.cli.policy.kept import why_kept
from capsule.cli.policy.repositories import kept
from capsule.cli.reference import policy_argument
from capsule.errors import PolicyError, Problem, nearest_name
from capsule.policy.model import Policy
from capsule.policy.parser import parse_address
from capsule.policy.paths import PathError, parse_path
from capsule.policy.request import Request, parse_request
from capsule.sandbox.access import Access, Decision
from capsule.sandbox.examples import decide
from capsule.sandbox.syscalls import numbers

if TYPE_CHECKING:
    from capsule.cli.policy.url import UrlAnswer


_WITHOUT = "/usr/local/bin:/usr/bin:/bin"
"""Where a program is looked for by a command that has no PATH."""


class _ExplainCommand(click.Command):
    """`--url` takes a method and a URL as two words too: `--url POST https://…`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        for word in args:
            if (
                len(words) > 1
                and words[-2] == "--url"
                and re.fullmatch(r"[A-Z][A-Z-]*", words[-1])
                and "://" in word
            ):
                words[-1] += f" {word}"
            else:
                words.append(word)
        return super().parse_args(ctx, words)


@click.command(
    "explain",
    cls=_ExplainCommand,
    epilog="Example: capsule policy explain capsule.yaml --path ~/.ssh/id_ed25519",
)
@policy_argument
@click.option("--tool", metavar="NAME", help="Explain as the policy holds for one of its tools.")
@click.option(
    "--path", "paths", metavar="PATH", multiple=True, help="May this be read (with --write: written)?"
)
@click.option("--write", is_flag=True, help="With --path: ask about writing.")
@click.option("--exec", "programs", metavar="PROGRAM", multiple=True, help="May this program run?")
@click.option("--syscall", "calls", metavar="NAME", multiple=True, help="May this system call be made?")
@click.option(
    "--env", "variables", metavar="NAME", multiple=True, help="Does this variable reach the command?"
)
@click.option(
    "--connect",
    "addresses",
    metavar="ADDRESS",
    multiple=True,
    help="May tcp:HOST:PORT or unix:PATH be reached?",
)
@click.option(
    "--url",
    "urls",
    metavar="[METHOD] URL",
    multiple=True,
    help="May this request be made, and what happens to it?",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(  # noqa: PLR0917 (click hands over one for each option)
    policy: str,
    tool: str | None,
    paths: tuple[str, ...],
    write: bool,
    programs: tuple[str, ...],
    calls: tuple[str, ...],
    variables: tuple[str, ...],
    addresses: tuple[str, ...],
    urls: tuple[str, ...],
    as_json: bool,
) -> int:
    """Say what is allowed, by which line, and which line would change it.

    Paths that begin with neither '/' nor '~' are relative to the working directory; symbolic links are
    followed where they exist. A PROGRAM without '/' is looked up in the command's PATH. Without a question,
    a summary. Exits 0 when everything asked about is allowed, else 1.
    """
    loaded, access = load_access(policy, tool)
    if write and not paths:
        raise click.UsageError("--write goes with --path")
    answers: list[tuple[str, Decision, tuple[str, ...]]] = []
    want = "write" if write else "read"
    answers += [(f"{want} {asked}", _path(loaded, access, want, asked), ()) for asked in paths]
    answers += [
        (f"execute {asked}", decide(access, "execute", _program(access, asked)), ()) for asked in programs
    ]
    answers += [(f"syscall {name}", *access.syscall(_known(name))) for name in calls]
    answers += [(f"env {name}", _variable(access, name), ()) for name in variables]
    answers += [(f"connect {address}", _connect(access, address), ()) for address in addresses]
    reached = _reached(access, urls)
    if as_json:
        terminal.say_json(
            [
                *(
                    {"asked": asked, "conditions": list(conditions), **terminal.decision_json(decision)}
                    for asked, decision, conditions in answers
                ),
                *(answer.record() for answer in reached),
            ]
            if answers or reached
            else terminal.summary_json(access.plan)
        )
    elif not answers and not reached:
        terminal.say_summary(access.plan)
    for asked, decision, conditions in () if as_json else answers:
        terminal.say(f"{asked}: {terminal.verdict(decision)}")
        for condition in conditions:
            terminal.say(f"  when {condition}")
        terminal.say_decision(decision)
    for answer in () if as_json else reached:
        answer.say()
    granted = all(decision.granted for _, decision, _ in answers)
    return 0 if granted and all(answer.outcome == "allowed" for answer in reached) else 1


def _reached(access: Access, urls: tuple[str, ...]) -> list[UrlAnswer]:
    if not urls:
        return []
    # Only this question costs the import of what evaluates rules.
    from capsule.cli.policy.url import explain_url, rules_of

    rules = rules_of(access)
    return [explain_url(access, rules, _request(text)) for text in urls]


def _request(text: str) -> Request:
    try:
        return parse_request(text)
    except PathError as fault:
        raise PolicyError(
            [Problem("--url", 1, 1, fault.what, fault.expected, None, fault.next_step)]
        ) from None


def _path(policy: Policy, access: Access, want: str, asked: str) -> Decision:
    path = _resolved(asked, "--path")
    decision = decide(access, want, path)
    if decision.granted and want == "write":
        # A link itself is what would be written over.
        given = _own(asked, "--path")
        name = Path(os.path.realpath(given.parent), given.name)
        decision = kept(access, str(name)) or kept(access, path) or decision
    if decision.granted and (why := why_kept(path, want, policy, access)):
        return Decision("protected" if want == "write" else "denied", own=why)
    return decision


def _resolved(text: str, option: str) -> str:
    return os.path.realpath(_own(text, option))


def _own(text: str, option: str) -> Path:
    """A path that somebody asks about, with the home that `~` stands for."""
    if not text:
        raise _unfit(option, "an empty path", "a path such as ./src, ~/data or /usr")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise _unfit(
            option, f"{text!r} names the home of a user who is not known here", "~/… or a path"
        ) from None


def _unfit(option: str, what: str, expected: str, next_step: str = "") -> PolicyError:
    return PolicyError([Problem(option, 1, 1, what, expected, None, next_step)])


def _variable(access: Access, name: str) -> Decision:
    if not name or "=" in name:
        raise _unfit(
            "--env", f"{name!r} cannot be the name of a variable", "one that is not empty and has no '='"
        )
    return access.variable(name)


def _program(access: Access, text: str) -> str:
    """The file a word starts.

    A bare name is looked up in the PATH that the command gets, as `capsule run` does: the first that may be executed,
    else the first that is there.
    """
    if "/" in text or text == "~":
        return _resolved(text, "--exec")
    search = _search(access)
    found = [os.path.realpath(place) for part in search.split(":") if _starts(place := Path(part, text))]
    if not found:
        what = f"there is no program {text!r} in the command's PATH ({search})"
        next_step = f"to ask about a file: --exec ./{text}" if text else ""
        raise _unfit("--exec", what, "the name of one that is there, or a path", next_step)
    return next((path for path in found if decide(access, "execute", path).granted), found[0])


def _search(access: Access) -> str:
    named = access.plan.environment.set.get("PATH")
    if named is None and access.variable("PATH").granted:
        named = os.environ.get("PATH")
    return _WITHOUT if named is None else named


def _starts(place: Path) -> bool:
    return place.is_file() and os.access(place, os.X_OK)


def _known(name: str) -> str:
    if name in numbers():
        return name
    nearest = nearest_name(name, numbers())
    raise PolicyError(
        [
            Problem(
                "--syscall", 1, 1, f"unknown system call {name!r}", "the Linux name of a system call", nearest
            )
        ]
    )


def _connect(access: Access, text: str) -> Decision:
    try:
        if text.startswith("unix:"):
            parse_path(text.removeprefix("unix:").lstrip("/") or "/", globs=False)
            return access.address("unix:" + _resolved(text.removeprefix("unix:"), "--connect"))
        return access.address(parse_address(text))
    except PathError as fault:
        raise PolicyError(
            [Problem("--connect", 1, 1, fault.what, fault.expected, None, fault.next_step)]
        ) from None
