"""The kernel's configuration as a value: what was asked for, and whether the kernel's own tool took it.

`make allnoconfig` drops a line whose condition does not hold and says nothing; a kernel without what its
configuration says is refused here. Refuses lines that are neither an option nor a comment.

    unmet(parse(asked), parse(made))     # ['CONFIG_VMGENID: asked y, is n']
"""

from __future__ import annotations

import re

from capsem.errors import ImageError

_SET = re.compile(r"(CONFIG_[A-Z0-9_a-z]+)=(y|n|m|-?\d+|0x[0-9a-fA-F]+|\"[^\"]*\")")
_UNSET = re.compile(r"# (CONFIG_[A-Z0-9_a-z]+) is not set")


def parse(text: str, place: str = "kernel.config") -> dict[str, str]:
    """Options and their values; `is not set` is `n`.

    Raises:
        ImageError: a line of another form, or an option twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _SET.fullmatch(line) or _UNSET.fullmatch(line)
        if match is None:
            if line.strip() and not line.startswith("#"):
                raise ImageError(
                    f"{place}:{number}: {line!r} is no option", next_step="write CONFIG_NAME=value"
                )
            continue
        name = match[1]
        if name in found:
            raise ImageError(f"{place}:{number}: {name} is there twice", next_step="leave one of the two out")
        found[name] = match[2] if match.re is _SET else "n"
    return found


def unmet(asked: dict[str, str], made: dict[str, str]) -> list[str]:
    """What was asked for and is otherwise, in words; an option that is not there is `n`."""
    return [
        f"{name}: asked {value}, is {made.get(name, 'n')}"
        for name, value in asked.items()
        if made.get(name, "n") != value
    ]


def made_by_us(sources_sha256: str, config: str, compiler: str) -> str:
    """What a build of the kernel depends on, as text to take a digest of."""
    return f"capsem kernel 1\n{sources_sha256}\n{compiler}\n{config}"
