"""`capsule apply`: take over what a run under `--overlay` wrote, all of it or nothing."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click

from capsule.cli import terminal
from capsule.cli.overlay import overlays
from capsule.cli.overlay.logs import logs_beneath
from capsule.cli.overlay.show import as_json, summary
from capsule.overlay.apply import Application
from capsule.overlay.change import Change, points_out
from capsule.overlay.journal import recover
from capsule.overlay.layer import Overlay
from capsule.overlay.manifest import OverlayError, Root


@click.command("apply", epilog="Example: capsule apply --yes")
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--force", is_flag=True, help="Also where the host's file changed since the run began; never over a log."
)
@click.option("--skip-refused", is_flag=True, help="Take over the rest when some names are refused.")
@click.option("--links", is_flag=True, help="Also links that point outside of the directory.")
@click.option(
    "--json", "json_", is_flag=True, help="Answer in JSON: one change a line, then what was taken over."
)
@click.option("--keep", is_flag=True, help="Keep the overlay afterwards.")
def command(  # noqa: PLR0917 (click hands over one for each option)
    run: str | None, yes: bool, force: bool, skip_refused: bool, links: bool, json_: bool, keep: bool
) -> int:
    """Take over what a run with an overlay wrote (the newest run, or RUN), then throw the overlay away."""
    kept = overlays()
    with kept.hold(run) as overlay:
        name = overlay.manifest.run
        for root in overlay.manifest.roots:
            recover(Path(root.path), overlay.directory / str(root.layer))
        changes = list(overlay.changes())
        for root, change in changes:
            if json_:
                sys.stdout.write(json.dumps(as_json(root, change), sort_keys=True) + "\n")
            else:
                terminal.say(summary(root, change, str(Path.cwd())))
        refused = [change for _, change in changes if change.refused is not None]
        if refused and not skip_refused:
            raise OverlayError(
                f"{len(refused)} of {len(changes)} changes are refused, so nothing was taken over",
                next_step="look at them, then: capsule apply --skip-refused",
            )
        outward = [] if links else [change for _, change in changes if _points_out(change)]
        if outward and not skip_refused:
            raise OverlayError(
                f"links that point outside: {len(outward)}; nothing was taken over: {_named(outward)}",
                next_step="look at them, then: capsule apply --links, or leave them out with --skip-refused",
            )
        refused += outward
        logs = logs_beneath(changes)
        if logs and not skip_refused:
            raise OverlayError(
                f"a log of capsule's stands at {logs[0][1]!r}, and {logs[0][0].path!r} would be put in its place; "
                "nothing was taken over, and --force would not do it",
                next_step="leave it out with --skip-refused, or move the log away first",
            )
        refused += [change for change, _ in logs]
        left = {id(change) for change in refused}
        wanted = [(root, change) for root, change in changes if id(change) not in left]
        if any(change.conflict for _, change in wanted) and not force:
            raise OverlayError(
                "the host changed since the run began, so nothing was taken over",
                next_step="look at the conflicts with `capsule diff`, then: capsule apply --force",
            )
        if wanted and not yes and not _agreed(len(wanted)):
            return 1
        take_over(overlay, wanted)
        if json_:
            terminal.say_json({"run": name, "taken_over": len(wanted), "left_out": len(refused)})
        else:
            terminal.say(f"{name}: {len(wanted)} changes taken over")
    if not keep and not refused:
        kept.discard(name)
    return 0


def _points_out(change: Change) -> bool:
    """Whether a name becomes a link that leads out: who writes to it later writes there."""
    return (
        change.refused is None
        and change.after.kind == "link"
        and points_out(change.path, change.after.target)
    )


def _named(changes: list[Change], most: int = 3) -> str:
    names = [f"{change.path!r} -> {change.after.target!r}" for change in changes[:most]]
    return ", ".join(names) + (f" and {len(changes) - most} more" if len(changes) > most else "")


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise OverlayError(
            "nobody can be asked here, so nothing was taken over", next_step="say so with --yes"
        )
    return click.confirm(f"take over {count} changes?", err=True)


def take_over(overlay: Overlay, changes: list[tuple[Root, Change]]) -> None:
    """All of these changes, in all roots, or none."""
    with contextlib.ExitStack() as stack:
        applications = {}
        for root, change in changes:
            if root not in applications:
                upper = overlay.directory / str(root.layer) / "upper"
                applications[root] = stack.enter_context(Application(Path(root.path), upper))
            applications[root].stage(change)
        for application in applications.values():
            application.commit()
