"""What a caller asks of `run` and `Sandbox`, checked here before anything starts.

Refuses, with an `ArgumentError` that names the argument: what is of another type, what no program could be given
(a null character, a lone surrogate, a variable without a name), and times that cannot be kept.

    argv_of("git status", "cmd")      # ['git', 'status']
    argv_of([b"ls"], "cmd")           # ArgumentError: cmd[0] is bytes, not str …
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from capsule.errors import ArgumentError

MOST_SECONDS: Final = 999_999_999
"""As `capsule run --timeout` counts them."""


def argv_of(cmd: object, name: str = "cmd") -> list[str]:
    """Program and arguments: at least one, the first not empty.

    Raises:
        ArgumentError: it is not of that form.
    """
    if isinstance(cmd, str):
        try:
            words = shlex.split(cmd)
        except ValueError as fault:
            why = str(fault).rstrip(".").lower()
            raise ArgumentError(
                f"{name} cannot be split into words: {why}", next_step="or give a list, one argument each"
            ) from None
        found = [text_of(word, name) for word in words]
    elif isinstance(cmd, os.PathLike):
        found = [path_of(cmd, name)]
    elif isinstance(cmd, Sequence) and not isinstance(cmd, bytes | bytearray | memoryview):
        found = [path_of(part, f"{name}[{at}]") for at, part in enumerate(cmd)]
    else:
        raise _other(name, cmd, "a string or a list of strings", "give a program and its arguments")
    if not found:
        raise ArgumentError("the command is empty", next_step="give a program and its arguments")
    if not found[0]:
        raise ArgumentError("the command's program is an empty string", next_step="name one")
    return found


def text_of(value: object, name: str) -> str:
    """A string that a program can be given.

    Raises:
        ArgumentError: it is none.
    """
    if not isinstance(value, str):
        decode = "os.fsdecode makes one of bytes" if isinstance(value, bytes) else "str(…) makes one"
        raise _other(name, value, "str", decode)
    if "\0" in value:
        raise ArgumentError(
            f"{name} has a null character at {value.index(chr(0))}, which no program can be given",
            next_step="leave it out, or pass it as input",
        )
    try:
        os.fsencode(value)
    except UnicodeEncodeError as fault:
        raise ArgumentError(
            f"{name} has half a character at {fault.start} ({value[fault.start]!a}), which has no bytes",
            next_step="leave it out",
        ) from None
    return value


def path_of(value: object, name: str) -> str:
    """A string, or what `os.PathLike` makes of another thing.

    Raises:
        ArgumentError: it is none.
    """
    return text_of(os.fspath(value) if isinstance(value, os.PathLike) else value, name)


def place_of(value: object, name: str) -> str:
    """A path that is not empty.

    Raises:
        ArgumentError: it is none.
    """
    found = path_of(value, name)
    if not found:
        raise ArgumentError(
            f"{name} is an empty path", next_step="'.' is the working directory; None for the default"
        )
    return found


def seconds_of(value: object, name: str = "timeout") -> float | None:
    """A time that can be kept, or None for none.

    Raises:
        ArgumentError: it is no number, not above 0, or too large.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _other(name, value, "a number of seconds", "give for instance 1.5, or None for no end")
    if not 0 < value <= MOST_SECONDS:
        # A whole number may have more digits than Python writes.
        shown = repr(value) if isinstance(value, float) or abs(value) < 1 << 99 else "a number of many digits"
        raise ArgumentError(
            f"{name} is {shown}; it must be a positive number of seconds, at most {MOST_SECONDS}",
            next_step="None is for no end",
        )
    # It is told in milliseconds.
    return max(float(value), 0.001)


def variables_of(env: object, name: str = "env") -> dict[str, str]:
    """Names and values of variables.

    Raises:
        ArgumentError: a name or a value cannot be in an environment.
    """
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        raise _other(name, env, "a mapping of names to strings", "give for instance {'LANG': 'C'}")
    found = {}
    for key, value in env.items():
        variable = text_of(key, f"{name}: the name {key!r}")
        if not variable or "=" in variable:
            raise ArgumentError(
                f"{name}: {key!r} cannot be the name of a variable",
                next_step="one is not empty and has no '='",
            )
        found[variable] = text_of(value, f"{name}[{variable!r}]")
    return found


def bytes_of(value: object, name: str = "input") -> bytes | None:
    """What a program reads on standard input.

    Raises:
        ArgumentError: it is neither text nor bytes.
    """
    if isinstance(value, bytes) or value is None:
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise _other(name, value, "str or bytes", "encode it first")
    try:
        return value.encode()
    except UnicodeEncodeError as fault:
        raise ArgumentError(
            f"{name} has half a character at {fault.start} ({value[fault.start]!a}), which has no bytes",
            next_step="pass bytes, or leave it out",
        ) from None


def names_of(value: object, name: str) -> tuple[str, ...]:
    """Several strings.

    Raises:
        ArgumentError: it is one string, or something else.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _other(name, value, "a list of strings", "put one into a list too")
    return tuple(text_of(part, f"{name}[{at}]") for at, part in enumerate(value))


def _other(name: str, value: object, expected: str, next_step: str) -> ArgumentError:
    return ArgumentError(f"{name} is {type(value).__name__}, not {expected}", next_step=next_step)
