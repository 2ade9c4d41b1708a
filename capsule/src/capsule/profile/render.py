"""The text of a suggested ``capsule.yaml``: small, commented, and safe to read. Pure.

Names come from the command and are hostile: each is written as a quoted scalar with every control and
non-ASCII character escaped, so that none can end a line, add a key or move a cursor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from capsule.profile.suggest import Line, Suggestion, Unreached

_PLAIN = re.compile(r"\.|(?:\.?/)[A-Za-z0-9_./+@-]*[A-Za-z0-9_/+@-]|[a-z]+(?:-[a-z]+)*")
_WORDS_OF_YAML = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_SECTIONS = (
    ("filesystem", ("read", "write", "execute")),
    ("network", ("hosts", "ports", "unix")),
    ("syscalls", ("groups",)),
    ("env", ("pass", "set", "scrub.remove")),
)
_WIDTH = 36
_LINE = 100
_SHOWN = 40
"""Refused places, and addresses tried in vain, that are named."""


def quote(value: str) -> str:
    """A YAML scalar on one line, in ASCII; quoted unless plainly harmless."""
    if _PLAIN.fullmatch(value) and value not in _WORDS_OF_YAML:
        return value
    return '"' + "".join(_escape(character) for character in value) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if 0x20 <= code < 0x7F:
        return character
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def render_suggestion(suggestion: Suggestion, *, name: str = "profiled") -> str:
    """The policy file."""
    seen = suggestion.observation
    command = " ".join(seen.command)
    out = [
        f"# Suggested from {seen.runs} run{'s' if seen.runs != 1 else ''}, the last: {quote(command[:200])}",
        "# Behind each line: how often it was used. `LOOK TWICE` marks what deserves a reason of its own.",
    ]
    if seen.lost:
        out.append(f"# {seen.lost} events were lost: something may be missing.")
    refused = sum(use.refused for use in seen.files) + sum(use.refused for use in seen.addresses)
    if refused:
        out.append(
            f"# {refused} uses were refused while observing; what a program does after a refusal is not known."
        )
    if suggestion.place != seen.workspace:
        out.append(
            f"# Paths are whole because it lies elsewhere; in {quote(seen.workspace)} itself `.` is that directory."
        )
    out += ["version: 1", f"name: {quote(name)}", f"extends: [{suggestion.base.preset}]", ""]
    for section, keys in _SECTIONS:
        body: list[str] = []
        for key in keys:
            lines = [line for line in suggestion.lines if line.section == f"{section}.{key}"]
            if lines:
                outer, _, inner = key.partition(".")
                body.append(f"  {outer}: {{{inner}: [" if inner else f"  {outer}:")
                body += [_render_line(line) for line in lines]
                body += ["  ]}"] * bool(inner)
        if section == "filesystem" and suggestion.private:
            body += [f"  private: [{', '.join(suggestion.private)}]   # thrown away after the run"]
        if section == "filesystem" and suggestion.protect:
            body += [
                "  protect: [  # what runs on the host later, as in `workspace`",
                *_beside_one_another(suggestion.protect),
                "  ]",
            ]
        if body:
            out += [f"{section}:", *body, ""]
    if suggestion.unused_groups:
        out += [
            "# These groups of system calls were not used; to take them away:",
            f"# syscalls: {{groups: {{remove: [{', '.join(suggestion.unused_groups)}]}}}}",
            "",
        ]
    out += [f"# Not suggested, far too wide: listing {quote(path)}" for path in suggestion.too_wide]
    out += [
        f"# LOOK TWICE, refused and not suggested: {quote(each.path)}, {each.count} times: {each.warning}"
        for each in suggestion.refused[:_SHOWN]
    ]
    if more := len(suggestion.refused) - _SHOWN:
        out += [f"# and {more} more such places"] * (more > 0)
    out += [_render_unreached(each) for each in suggestion.unreached[:_SHOWN]]
    if more := len(suggestion.unreached) - _SHOWN:
        out += [f"# and {more} more such addresses"] * (more > 0)
    return "\n".join(out).rstrip() + "\n"


def _render_unreached(each: Unreached) -> str:
    times = "once" if each.count == 1 else f"{each.count} times"
    rule = f"; to allow: {each.rule}" if each.rule else ""
    return f"# Not suggested: {quote(each.address)}, tried {times}: {each.why}{rule}"


def _beside_one_another(values: Iterable[str]) -> Iterator[str]:
    """Items of a list, as many on a line as there is room for; one that is longer has its own."""
    line = ""
    for item in (f"{quote(value)}," for value in values):
        if line and len(line) + 1 + len(item) > _LINE:
            yield f"    {line}"
            line = ""
        line = f"{line} {item}" if line else item
    if line:
        yield f"    {line}"


def _render_line(line: Line) -> str:
    port = line.section == "network.ports" and line.value.isascii() and line.value.isdigit()
    # A host entry and what is set are mappings already, made of names and numbers that were checked.
    bare = port or line.section in ("network.hosts", "env.set")
    value = line.value if bare else quote(line.value)
    begin = {"env.set": f"    {value}", "env.scrub.remove": f"    {value},"}
    value = begin.get(line.section, f"    - {value}")
    comment = line.evidence + (f"   LOOK TWICE: {line.warning}" if line.warning else "")
    return f"{value:<{_WIDTH}}  # {comment}"
