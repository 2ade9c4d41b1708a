"""Everything a person reads from the Python verbs. Answers go to standard output, complaints to standard error.

What it refuses: control characters from policies reaching the terminal; they are shown escaped.

    terminal.fault(error)          # capsule: capsule.yaml:3:5: unknown key 'raed' …
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

import click

from capsule.errors import CapsuleError, PolicyError, Problem


def plain(text: str) -> str:
    """The text with control characters escaped, so that it cannot drive the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)


def near(path: str) -> str:
    """A file as a person here would name it: relative when it lies below the working directory."""
    here = os.getcwd().rstrip("/") + "/"
    return path.removeprefix(here)


def say(text: str = "") -> None:
    """One line of the answer."""
    sys.stdout.write(plain(text) + "\n")


def say_json(value: Any) -> None:
    """The answer as one line of JSON."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n")


def say_bytes(data: bytes) -> None:
    """The answer as it is, and a newline."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def complain(lines: Iterable[str]) -> None:
    """Lines on standard error, each marked as ours."""
    for line in lines:
        sys.stderr.write(f"capsule: {plain(line)}\n")


def problem_line(problem: Problem) -> str:
    """A problem with its file named from here."""
    return near(str(problem))


def fault(error: CapsuleError) -> None:
    """What went wrong, and what to do."""
    if isinstance(error, PolicyError):
        complain(problem_line(problem) for problem in error.problems)
        complain([error.next_step])
    else:
        complain([error.message, error.next_step])


def usage(error: click.ClickException) -> None:
    """The command line was wrong."""
    complain([error.format_message()])
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
