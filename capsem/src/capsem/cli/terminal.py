"""All text of the verbs. Answers go to standard output, complaints to standard error.

What it refuses: control characters from a machine, an image or a policy reaching the terminal, and a name that writes
lines of its own; both are shown escaped.
The output of a command in a machine does not pass here: it is the caller's own, byte for byte.

    terminal.fault(error)          # capsem: no image named 'x' …
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from capsule.errors import CapsuleError, PolicyError
from capsule.unprintable import made_visible

if TYPE_CHECKING:
    from capsem.host.progress import Progress


_NAMED = 20
"""Names that are told one by one."""


def plain(text: str) -> str:
    """The text on one line and with control characters escaped, so that it cannot drive the terminal."""
    return made_visible(text.replace("\n", "\\n"))


def say(text: str = "") -> None:
    """One line of the answer."""
    sys.stdout.write(plain(text) + "\n")
    sys.stdout.flush()


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
    """The answer as one line of JSON that cannot drive the terminal."""
    sys.stdout.write(_json_line(value) + "\n")
    sys.stdout.flush()


def say_indented(value: Any) -> None:
    """An answer of ours as JSON that people read, too."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _json_line(value: Any) -> str:
    line = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)


def report(value: Any) -> None:
    """One line of JSON, the last of standard error."""
    sys.stderr.write(_json_line(value) + "\n")
    sys.stderr.flush()


def say_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under a head, columns as wide as they need to be."""
    lines = [[plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def complain(lines: Iterable[str]) -> None:
    """Lines on standard error, each marked as ours."""
    for line in lines:
        sys.stderr.write(f"capsem: {plain(line)}\n")
    sys.stderr.flush()


def left_out(names: Sequence[tuple[str, str]]) -> None:
    """What was not copied, and why; the first few by name."""
    complain(f"left out: {path!r}: {why}" for path, why in names[:_NAMED])
    if len(names) > _NAMED:
        complain([f"left out: {len(names) - _NAMED} more (--json names them all)"])


def fault(error: CapsuleError) -> None:
    """What went wrong, and what to do."""
    if isinstance(error, PolicyError):
        for problem in error.problems:
            what, quoted = problem.quoting()
            complain([what])
            sys.stderr.writelines(plain(line) + "\n" for line in quoted)
        complain([error.next_step])
        return
    # What a program said last stands below what became of it, and looks like nothing of ours.
    what, *quoted = error.message.split("\n")
    complain([what] if what else [])
    sys.stderr.writelines(f"  {plain(line)}\n" for line in quoted)
    complain([error.next_step] if error.next_step else [])


def unanswered(error: CapsuleError) -> None:
    """There is no answer, for programs that asked for JSON; the words are on standard error as ever."""
    said = {"kind": type(error).__name__, "message": error.message, "next_step": error.next_step}
    say_json({"ok": False, "error": said, "exit": error.exit_code})


def usage(error: click.ClickException) -> None:
    """The command line was wrong."""
    # Click lists choices on lines of their own.
    complain([error.format_message().replace("\n\t", " ")])
    if isinstance(error, click.UsageError) and error.ctx is not None:
        complain([f"try '{error.ctx.command_path} --help'"])


def megabytes(size: int) -> str:
    """A number of bytes for a person: `90.3 MB`."""
    return f"{size / 1_000_000:.1f} MB"


class _Lines:
    """Steps as lines on standard error, for a log or a pipe."""

    def step(self, what: str) -> None:
        complain([what])

    def at(self, fraction: float | None) -> None:
        """A line has no bar."""


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show long work on standard error: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bar(bars)


class _Bar:
    """One line a step; the step at hand has the bar."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None

    def step(self, what: str) -> None:
        if self._task is not None:
            self._bars.update(self._task, total=1, completed=1)
            self._bars.stop_task(self._task)
        self._task = self._bars.add_task(plain(what), total=None)

    def at(self, fraction: float | None) -> None:
        if self._task is not None:
            self._bars.update(self._task, total=None if fraction is None else 1, completed=fraction or 0)
