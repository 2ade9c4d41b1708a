"""How an exception crosses: as a description, rebuilt on the other side from a fixed list.

`describe` runs in the sandbox and `rebuild` outside. A built-in exception of the list below comes back as
itself, with its arguments when they are plain; anything else comes back as `ToolError`, which carries the
type's name, the message and the remote traceback as text. No class is ever looked up by a name from the
sandbox, and the ones that steer an interpreter (`SystemExit`, `KeyboardInterrupt`, `StopIteration`) are not
on the list.

    rebuild(describe(KeyError("x")))        # KeyError('x')
    rebuild(describe(MyError("x")))         # ToolError('mymodule.MyError: x')
"""

from __future__ import annotations

import traceback
from typing import Final

from capsule.errors import RemoteTraceback, ToolError, WorkerError
from capsule.sdk.values import UnfitValueError, decode, encode
from capsule.unprintable import made_visible

MAX_TEXT: Final = 16 * 1024
"""Characters of a message or a traceback that cross; the middle of a longer one is left out."""

_REBUILT: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        ArithmeticError, AssertionError, AttributeError, BlockingIOError, BrokenPipeError, BufferError,
        ChildProcessError, ConnectionAbortedError, ConnectionError, ConnectionRefusedError,
        ConnectionResetError, EOFError, Exception, FileExistsError, FileNotFoundError, FloatingPointError,
        ImportError, IndexError, InterruptedError, IsADirectoryError, KeyError, LookupError, MemoryError,
        ModuleNotFoundError, NameError, NotADirectoryError, OSError, OverflowError,
        PermissionError, ProcessLookupError, RecursionError, ReferenceError, RuntimeError, TimeoutError,
        TypeError, UnboundLocalError, ValueError, ZeroDivisionError,
    )
}  # fmt: skip


def describe(error: BaseException) -> bytes:
    """The text form of an exception's description."""
    kind = type(error)
    try:
        message = str(error)
    except Exception as second:  # noqa: BLE001 - a tool's own __str__ may raise anything
        message = f"(its __str__ raised {type(second).__name__})"
    arguments: list[object] = list(error.args)
    if isinstance(error, OSError) and error.filename is not None and len(arguments) == 2:
        arguments.append(error.filename)
    try:
        if len(encode(arguments)) > MAX_TEXT:
            arguments = [_bounded(message)]
    except UnfitValueError:
        arguments = [_bounded(message)]
    return encode(
        {
            "type": kind.__qualname__[:200],
            "module": kind.__module__[:200],
            "message": _bounded(message),
            "arguments": arguments,
            "notes": [_bounded(str(note)) for note in getattr(error, "__notes__", [])[:8]],
            "traceback": _bounded("".join(traceback.format_exception(error, limit=40))),
        }
    )


def rebuild(text: bytes) -> Exception:
    """The exception that a description stands for; `text` is hostile and already bounded in length."""
    try:
        untrusted = decode(text, "exception")
    except UnfitValueError as fault:
        return WorkerError(f"the worker described an exception wrongly: {fault}")
    if not isinstance(untrusted, dict):
        return WorkerError("the worker described an exception wrongly: not a dict")
    name, module, message, remote = (
        _text(untrusted.get(key)) for key in ("type", "module", "message", "traceback")
    )
    arguments, notes = untrusted.get("arguments"), untrusted.get("notes")
    found = _REBUILT.get(name) if module == "builtins" else None
    error: Exception
    if found is None or not isinstance(arguments, list):
        error = ToolError(
            message, type_name=name if module == "builtins" else f"{module}.{name}", remote=remote
        )
    else:
        try:
            error = found(*arguments)
        except Exception:  # noqa: BLE001 - hostile arguments may be refused by any of the constructors
            error = found(message)
    if isinstance(notes, list):
        for note in notes[:8]:
            error.add_note(_text(note))
    error.__cause__ = RemoteTraceback(remote)
    return error


def _text(untrusted: object) -> str:
    """A bounded str whatever came, with terminal controls made visible."""
    text = _bounded(untrusted) if isinstance(untrusted, str) else ""
    return made_visible(text, but="\n\t")


def _bounded(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return (
        f"{text[: MAX_TEXT // 2]}\n… {len(text) - MAX_TEXT} characters left out …\n{text[-MAX_TEXT // 2 :]}"
    )
