r"""`--rules` and `rules=`: files of rules, read here as they are now; the machine's monitor compiles what they say.

Refuses what cannot be read, is no regular file (a FIFO would never end), is no text, or is larger than rules are.

    rules_of(["rules.yaml"])                  # [{"file": "rules.yaml", "text": "version: 1\n…"}]
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from capsem.errors import UsageError
from capsule.regular import read_regular

_LARGEST = 4 << 20


def rules_of(paths: Iterable[str | Path]) -> list[dict[str, str]]:
    """As the service takes them.

    Raises:
        UsageError: one of them cannot be read.
    """
    return [{"file": str(path), "text": _text(Path(path))} for path in paths]


def _text(path: Path) -> str:
    try:
        content = read_regular(path, most=_LARGEST)
    except OSError as error:
        raise _unread(path, error.strerror or str(error)) from None
    if len(content) > _LARGEST:
        raise _unread(path, f"it is larger than {_LARGEST >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _unread(path, f"byte {error.start} is no UTF-8") from None


def _unread(path: Path, why: str) -> UsageError:
    return UsageError(
        f"the file of rules {path} cannot be read: {why}",
        next_step=f"name a file of rules that is there (from {Path.cwd()}): see docs/formats/rules.md",
    )
